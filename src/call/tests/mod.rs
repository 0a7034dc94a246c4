//! The life of a call, told as scripts with their events: one file for each part of the contract's
//! section 5. `UPDATE_EXPECT=1` rewrites the goldens; read the difference before you keep it.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes goldens with them")]

mod answering;
mod authorization;
mod deadlines;
mod ending;
mod groups;
mod happenings;
mod invitations;
mod leaving;
mod media;
mod oracle;
mod presence;
mod random;
mod recording;
mod restart;
mod script;
mod settings;
