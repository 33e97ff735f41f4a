//! Where does this request go, and may it go again: decisions without sockets, clocks or chance.
//!
//! In reading order: [`route`] finds the route among many; [`upstream`] picks an endpoint of its
//! upstream, by a policy of [`pick`] or by its cookie ([`sticky`]); [`retry`] says whether a failed
//! attempt may be repeated, within [`budget`] and [`limit`]. What the process knows of an endpoint is
//! [`endpoint`]'s, by the rules of [`health`]. Time, randomness and the request come in as arguments.

#![forbid(unsafe_code)]

mod breaker;
pub mod budget;
pub mod endpoint;
pub mod health;
pub mod limit;
mod load;
mod outlier;
pub mod pick;
pub mod retry;
pub mod route;
#[cfg(test)]
mod script;
#[cfg(test)]
mod seeded;
#[cfg(test)]
mod simulation;
mod status;
pub mod sticky;
pub mod upstream;
