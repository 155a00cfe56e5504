//! The group coordinator by scripts (`testdata/groups`): what clients ask, what they are told, and
//! what is written to the log.
//!
//! A script that gives something else fails and prints what it gives now.

mod answers;
mod asks;
mod large;
mod limits;
mod random;
mod script;

/// Declares one test per script.
macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            script::play(name, include_str!(concat!("../../testdata/groups/", stringify!($name), ".txt")));
        })+
    };
}

scripts! {
    admin,
    commit_and_failure,
    expiry,
    initial_delay,
    join_and_sync,
    leave,
    max_size,
    offsets,
    protocols,
    rejoin,
    sessions,
    static_members,
    three_members_one_dies,
    transactions,
}
