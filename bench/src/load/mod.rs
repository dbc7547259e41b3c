//! The load client's ways to ask.
//!
//! `closed` keeps a number of connections busy and finds the throughput; `open` asks at a fixed rate whatever the
//! answers do, and finds the latency; `held` opens streams and leaves them open, and finds the memory; `flood` keeps
//! connections busy whatever is answered; `counted` asks a fixed number of times, for counting instructions.

mod asking;
mod closed;
mod counted;
mod flood;
mod held;
mod open;
mod tally;
mod target;
mod window;

pub use closed::closed;
pub use counted::counted;
pub use flood::flood;
pub use held::held;
pub use open::open;
pub use target::Target;
pub use window::Window;
