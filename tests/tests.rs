//! One integration binary, so that libtorch is linked once. Files mirror src/.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs)]

mod attack; //    budgets, goals, the paper's limits
mod child; //     processes with a limit of time
mod cli; //       what a user types, rightly and wrongly
mod config; //    overrides, errors, every file of configs/
mod correlate; // rank correlations and bootstrap
mod data; //      every format, good and broken
mod convolution; // by products and channels last against libtorch's
mod damage; //    checkpoints and data with bytes that are not as they were written
mod decoder; //   the metric of codes
mod deploy; //    scripts for clusters and containers
mod device; //    where the tests of kernels run
mod dice; //      damaged files and random moments
mod driver; //    an NVIDIA driver that is too old
mod evaluation; // from the suite to the leaderboard
mod files; //     where they find what they read
mod fuzzed; //    the corpora of fuzz/, on stable
mod harness; //   the run on a GPU machine: rows, limits, stops
mod golden; //    whole passes against float64 reference values
mod jacobian; //  batched VJPs against loops and finite differences
mod killed; //    commands killed at random moments
mod library; //   the crate as others use it
mod linalg; //    factorisations shared among threads
mod linear; //    layers on a few rows against libtorch's
mod rectified; // layers and their ReLU as one operation
mod leaderboard; // which models compare, and who is first
mod launcher; //  the parts that launchers give
mod layers; //    which way imports go
mod kernels; //   every kernel against plain loops and LAPACK
mod lane; //      copies beside the computation
mod lost; //      samples of which nothing is known
mod leading; //   matrix-free spectra and estimates
mod messages; //  what a user reads where a request is wrong
mod model; //     architectures, checkpoints, TorchScript
mod others; //  models as others have them
mod native; //    the header of the native code and its users
mod parallel; // work on libtorch's threads
mod parsers; //  bytes and texts that are read by hand
mod preflight; // the first minute of a stranger
mod python; //    what Python's libraries say of a file
mod replay; //    repeated work on fixed buffers
mod report; //    the page
mod roundoff; //  tolerances from arithmetic
mod safety; //    full disks, other processes, data that change
mod score; //     formulas
mod shift; //    measures against closed forms and known packages
mod signals; //   stopping the program
mod stranger; //  a crate of somebody else that uses this one
mod spectrum; //  eigenvalues against LAPACK, edge cases
mod starved; //   memory that runs out
mod stem; //      encoders that begin with a linear map
mod terminal; //  help, completions, colour, progress
mod threads; //   how many there are
mod toy; //       small models with known weights
mod surroundings; // the clock, the locale, readers that go away
mod sweep; //     the paper's study, killed and resumed
mod train; //     losses, resume, determinism
mod train_log; // what TensorBoard reads of it
