//! Counts the members of a consumer group by the hosts that they connect from. Pure.

use std::collections::HashMap;

use crate::brokers::observation::MemberHosts;

/// The members of one group, counted one by one.
#[derive(Default)]
pub(super) struct HostCount<'a> {
    /// Members by host, and how many of them have a partition.
    hosts: HashMap<&'a str, (u32, u32)>,
    idle_members: u32,
}

impl<'a> HostCount<'a> {
    /// Adds a member. `has_partitions` is also true where it is not known.
    pub(super) fn add(&mut self, host: &'a str, has_partitions: bool) {
        let (members, busy) = self.hosts.entry(host).or_default();
        *members += 1;
        *busy += u32::from(has_partitions);
        self.idle_members += u32::from(!has_partitions);
    }

    /// How the members are spread. Absent: there are none, or the broker hides their hosts.
    pub(super) fn finish(&self) -> Option<MemberHosts> {
        if self.hosts.keys().any(|host| host.is_empty()) {
            return None;
        }
        let most_members = self.hosts.values().map(|(members, _)| *members).max()?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(MemberHosts {
            hosts: count(self.hosts.len()),
            most_members,
            idle_members: self.idle_members,
            idle_hosts: count(self.hosts.values().filter(|(_, busy)| *busy == 0).count()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_by_host() {
        let mut count = HostCount::default();
        for (host, has_partitions) in
            [("/10.0.0.1", true), ("/10.0.0.1", true), ("/10.0.0.1", false), ("/10.0.0.2", false)]
        {
            count.add(host, has_partitions);
        }
        let expected = MemberHosts { hosts: 2, most_members: 3, idle_members: 2, idle_hosts: 1 };
        assert_eq!(count.finish(), Some(expected));
    }

    #[test]
    fn no_members_and_hidden_hosts_are_unknown() {
        assert_eq!(HostCount::default().finish(), None);
        let mut hidden = HostCount::default();
        hidden.add("", true);
        assert_eq!(hidden.finish(), None);
    }
}
