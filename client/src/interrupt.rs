//! Ctrl-C and termination: the first asks everything to end, the second ends at once.
//!
//! *Invariant:* installed once, before any long work; nothing here waits for anything.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_program::job::{Killer, Stopper};
use tokio::sync::watch;

use crate::failure::{Code, Failure};

/// Tells whether to stop, and ends jobs when it is time.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stop: watch::Sender<bool>,
    jobs: Mutex<Vec<Killer>>,
    stopper: Stopper,
}

impl Interrupt {
    /// Listens for the signals from now on.
    pub(crate) fn install() -> std::io::Result<Self> {
        let interrupt = Self(Arc::new(Inner {
            stop: watch::Sender::new(false),
            jobs: Mutex::default(),
            stopper: Stopper::default(),
        }));
        let heard = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let mut signals = Signals::new()?;
                signals.next().await;
                heard.stop();
                signals.next().await;
                std::process::exit(i32::from(Code::Interrupted as u8));
                #[expect(unreachable_code, reason = "gives the block its type")]
                std::io::Result::Ok(())
            })
        })?;
        Ok(interrupt)
    }

    /// Asks everything to end.
    pub(crate) fn stop(&self) {
        self.0.stop.send_replace(true);
        self.0.stopper.stop();
        for job in self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            job.kill();
        }
    }

    /// Whether it is time to end.
    pub(crate) fn stopped(&self) -> bool {
        *self.0.stop.borrow()
    }

    /// Fails when it is time to end.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.stopped() { Err(Failure::Interrupted.into()) } else { Ok(()) }
    }

    /// For those who wait asynchronously.
    pub(crate) fn receiver(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }

    /// Ends the job that it watches over when the time comes; of one at a time.
    pub(crate) fn stopper(&self) -> &Stopper {
        &self.0.stopper
    }

    /// Ends this job as well when the time comes.
    pub(crate) fn on_stop(&self, job: Killer) {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped() {
            job.kill();
        } else {
            jobs.push(job);
        }
    }

    /// Ends with the parent process: when the standard input does, and by the kernel's own notice on Linux.
    pub(crate) fn with_parent(&self) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        let interrupt = self.clone();
        std::thread::Builder::new().name("parent".into()).spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            interrupt.stop();
            // Whoever does not end by then never will.
            std::thread::sleep(std::time::Duration::from_secs(2));
            std::process::exit(i32::from(Code::Error as u8));
        })?;
        Ok(())
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
