//! Fields of which exactly one must be set, however many there are.

use super::Invalid;
use crate::api::rules::exactly_one_message;

/// A field by its name and, where it is set, what it was found to be.
pub(super) type Member<T> = (&'static str, Option<Result<T, Invalid>>);

/// The only one of the members of `field` that is set.
///
/// # Errors
/// None or several are set, or the one that is set is invalid.
pub(super) fn exactly_one<T, const N: usize>(field: &str, members: [Member<T>; N]) -> Result<T, Invalid> {
    let names = members.each_ref().map(|(name, _)| *name);
    let mut set = members.into_iter().filter_map(|(_, member)| member);
    match (set.next(), set.next()) {
        (Some(only), None) => only,
        _ => Err(Invalid::new(field, exactly_one_message(&names))),
    }
}
