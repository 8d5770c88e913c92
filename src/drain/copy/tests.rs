//! The loop on a source and a sink in memory, with faults at every call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// What survives a crash.
#[derive(Debug, Default)]
struct Durable {
    /// How far the source is settled.
    settled: u64,
    /// Records of settled batches.
    copied: BTreeMap<u64, u32>,
}

/// Numbers from 0 to the cut.
struct Numbers {
    durable: Rc<RefCell<Durable>>,
    position: u64,
    cut: u64,
    faults: Faults,
}

/// Batches that are durable with the progress of the source.
struct Store {
    durable: Rc<RefCell<Durable>>,
    open: Option<Vec<u64>>,
    faults: Faults,
    batches: Rc<RefCell<Vec<usize>>>,
}

/// What happens at each call, in turn; nothing after the last.
#[derive(Clone, Default)]
struct Faults(Rc<RefCell<Vec<Fault>>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    None,
    Again,
    Fatal,
    Moved,
    Nothing,
}

impl Faults {
    fn next(&self) -> Fault {
        self.0.borrow_mut().pop().unwrap_or(Fault::None)
    }

    fn result(&self) -> Result<(), Trouble> {
        match self.next() {
            Fault::Again => Err(Trouble::Again("a fault".to_owned())),
            Fault::Fatal => Err(Trouble::Fatal("a fault".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Source for Numbers {
    type Record<'s> = u64;

    fn next(&mut self, _wait: Duration) -> Result<Next<u64>, Trouble> {
        match self.faults.next() {
            Fault::Moved => {
                self.position = self.durable.borrow().settled;
                return Ok(Next::Moved);
            }
            Fault::Nothing => return Ok(Next::Nothing),
            Fault::Again => return Err(Trouble::Again("a fault".to_owned())),
            Fault::Fatal => return Err(Trouble::Fatal("a fault".to_owned())),
            Fault::None => {}
        }
        if self.position == self.cut {
            return Ok(Next::Nothing);
        }
        self.position += 1;
        Ok(Next::Record(self.position - 1))
    }

    fn has_progress(&self) -> bool {
        self.position != self.durable.borrow().settled
    }

    fn rewind(&mut self) -> Result<(), Trouble> {
        self.position = self.durable.borrow().settled;
        Ok(())
    }

    fn is_done(&mut self) -> Result<bool, Trouble> {
        Ok(self.durable.borrow().settled == self.cut)
    }
}

impl Sink<Numbers> for Store {
    fn begin(&mut self) -> Result<(), Trouble> {
        assert_eq!(self.open, None, "the batch before is settled or aborted");
        self.faults.result()?;
        self.open = Some(Vec::new());
        Ok(())
    }

    fn put(&mut self, record: &u64) -> Result<u64, Trouble> {
        self.faults.result()?;
        self.open.as_mut().unwrap().push(*record);
        Ok(1)
    }

    fn settle(&mut self, source: &mut Numbers) -> Result<(), Trouble> {
        self.faults.result()?;
        let mut durable = self.durable.borrow_mut();
        let records = self.open.take().unwrap();
        self.batches.borrow_mut().push(records.len());
        for record in records {
            *durable.copied.entry(record).or_default() += 1;
        }
        durable.settled = source.position;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.open = None;
        Ok(())
    }
}

/// Runs processes until one is done.
fn run(cut: u64, limits: &Limits, faults: Vec<Fault>) -> (Durable, Vec<usize>) {
    let durable = Rc::new(RefCell::new(Durable::default()));
    let batches = Rc::new(RefCell::new(Vec::new()));
    let faults = Faults(Rc::new(RefCell::new(faults)));
    for _ in 0..1000 {
        let position = durable.borrow().settled;
        let (mut source, mut sink) = (
            Numbers { durable: durable.clone(), position, cut, faults: faults.clone() },
            Store { durable: durable.clone(), open: None, faults: faults.clone(), batches: batches.clone() },
        );
        let mut copied = 0;
        match copy(&mut source, &mut sink, limits, &Stop::default(), &mut copied) {
            Ok(end) => {
                assert_eq!(end, End::Done);
                drop((source, sink));
                return (Rc::try_unwrap(durable).unwrap().into_inner(), batches.take());
            }
            Err(trouble) => assert!(matches!(trouble, Trouble::Fatal(_))),
        }
    }
    panic!("no process was done");
}

fn limits(records: u64) -> Limits {
    Limits { records, bytes: 1000, age: Duration::from_secs(60), first: 16, bytes_per_second: None }
}

#[test]
fn batches_are_full_or_the_last() {
    let (durable, batches) = run(25, &limits(10), vec![]);
    assert_eq!(durable.copied.len(), 25);
    assert_eq!(batches, [10, 10, 5]);
    let (_, batches) = run(25, &Limits { bytes: 7, ..limits(10) }, vec![]);
    assert_eq!(batches, [7, 7, 7, 4]);
}

#[test]
fn batches_begin_small_and_again_so_after_one_that_failed() {
    let (durable, batches) = run(100, &limits(64), vec![]);
    assert_eq!((durable.copied.len(), batches), (100, vec![16, 32, 52]));
    // Faults are taken from the end: the call after the first batch and the begin of the second one fails.
    let faults = [vec![Fault::Again], vec![Fault::None; 16 + 16 + 2]].concat();
    let (durable, batches) = run(100, &limits(64), faults);
    assert_eq!(durable.copied.len(), 100);
    assert_eq!(batches[..2], [16, 16], "{batches:?}");
}

#[test]
fn a_stop_settles_what_was_taken() {
    let durable = Rc::new(RefCell::new(Durable::default()));
    let mut source = Numbers { durable: durable.clone(), position: 0, cut: 5, faults: Faults::default() };
    let batches = Rc::default();
    let mut sink = Store { durable: durable.clone(), open: None, faults: Faults::default(), batches };
    let (stop, mut copied) = (Stop::default(), 0);
    stop.set();
    assert_eq!(copy(&mut source, &mut sink, &limits(10), &stop, &mut copied), Ok(End::Stopped));
    assert_eq!((copied, sink.open), (0, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_each_record_is_copied_once(
        cut in 0_u64..60,
        records in 1_u64..20,
        faults in prop::collection::vec(
            prop_oneof![
                20 => Just(Fault::None),
                1 => Just(Fault::Fatal),
                2 => Just(Fault::Moved),
                1 => Just(Fault::Nothing),
            ],
            0..200,
        ),
    ) {
        let (durable, _) = run(cut, &limits(records), faults);
        prop_assert_eq!(durable.settled, cut);
        prop_assert_eq!(durable.copied, (0..cut).map(|record| (record, 1)).collect());
    }
}

#[test]
fn a_batch_that_is_aborted_is_read_again() {
    for place in 0..8 {
        let mut faults = vec![Fault::None; place];
        faults.insert(0, Fault::Again);
        let (durable, _) = run(3, &limits(2), faults);
        assert_eq!(durable.copied, (0..3).map(|record| (record, 1)).collect());
    }
}
