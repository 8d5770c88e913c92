//! Finds one object's series in the operator's metrics. Pure.

/// What the operator shows of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Messages that arrive per second.
    pub(super) rate: Option<f64>,
    /// Known, AtLeast or Unknown.
    pub(super) quality: String,
    /// Messages not yet processed.
    pub(super) backlog: Option<f64>,
    /// Replicas that the target asks for.
    pub(super) replicas: Option<f64>,
}

/// The series of an object; absent if it has none.
pub(super) fn seen(exposition: &str, namespace: &str, name: &str) -> Option<Seen> {
    // Names of objects have nothing in them that would be escaped, and these labels come first.
    let object = format!("{{namespace=\"{namespace}\",name=\"{name}\"");
    let mut seen = Seen::default();
    for line in exposition.lines() {
        let Some((metric, rest)) = line.split_once(&object) else { continue };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let Ok(number) = value.trim().parse::<f64>() else { continue };
        match (metric, labels) {
            ("queuescaler_arrival_rate", "") => seen.rate = Some(number),
            ("queuescaler_backlog", "") => seen.backlog = Some(number),
            ("queuescaler_replicas", ",kind=\"current\"") => seen.replicas = Some(number),
            ("queuescaler_reading_quality", quality) if number > 0.0 => {
                let quality = quality.strip_prefix(",quality=\"").and_then(|rest| rest.strip_suffix('"'));
                seen.quality = quality.unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    (!seen.quality.is_empty()).then_some(seen)
}
