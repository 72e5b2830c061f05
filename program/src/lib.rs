//! The `train.py` front end, and the job processes in which foreign programs are traced and run.

pub mod job;
