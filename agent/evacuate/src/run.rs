//! Look, decide, do, over and over, as long as there is a wish.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use trilith_core::evacuate::{Move, Next, Seen, WISH, Wish, next};
use trilith_core::pauses::Pauses;

use crate::hypervisor::{Away, Hypervisor, MoveError};
use crate::tell::Teller;

/// How often it looks when libvirt tells nothing: nobody tells that the wish is another one.
const PERIOD: Duration = Duration::from_secs(1);

/// Goes on until the wish is taken back.
pub(crate) fn run() -> Result<()> {
    let mut teller = Teller::read()?;
    let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(15));
    let mut standing: Option<Hypervisor> = None;
    while let Some(wish) = wish()? {
        let connected = standing.take().map_or_else(Hypervisor::connect, Ok);
        let passed = connected.and_then(|it| pass(&it, &wish, &mut teller).map(|rest| (it, rest)));
        match passed {
            Ok((hypervisor, told)) => {
                pauses.reset();
                if told? == Pace::Calm {
                    hypervisor.wait(PERIOD);
                }
                standing = Some(hypervisor);
            }
            Err(away) => {
                let pause = pauses.next_pause();
                let words = format!("{away}; again in {} s", pause.as_secs());
                eprintln!("{words}");
                teller.doing(wish.wave, Some(words))?;
                hold(pause);
            }
        }
    }
    let wave = teller.state().wave;
    teller.doing(wave, None)
}

/// What follows a pass.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    AtOnce,
    Calm,
}

/// One look, and at most one move. The inner error: it could not be told.
fn pass(hypervisor: &Hypervisor, wish: &Wish, teller: &mut Teller) -> Result<Result<Pace>, Away> {
    let seen: BTreeMap<String, Seen> = wish
        .moves
        .iter()
        .map(|it| Ok((it.machine.clone(), hypervisor.look(&it.machine)?)))
        .collect::<Result<_, Away>>()?;
    match next(wish, teller.state(), &seen) {
        Next::Rest => Ok(teller.doing(wish.wave, None).map(|()| Pace::Calm)),
        Next::Wait(it) => {
            // It may be over by now.
            let Some(job) = hypervisor.job(&it.machine) else { return Ok(Ok(Pace::Calm)) };
            let words = format!("libvirt is at work with {}: {} %", it.name, job.percent);
            // A backup is not for this program to end, nor a move that was begun before it started.
            let told = if job.is_late {
                teller.failed(wish.wave, format!("{words}, after {} s still", job.seconds))
            } else {
                teller.doing(wish.wave, Some(words))
            };
            Ok(told.map(|()| Pace::Calm))
        }
        Next::Go(it) => go(hypervisor, wish.wave, it, teller),
    }
}

fn go(
    hypervisor: &Hypervisor,
    wave: u64,
    it: &Move,
    teller: &mut Teller,
) -> Result<Result<Pace>, Away> {
    let (begin, mut logged) = (Instant::now(), 0);
    eprintln!("{} goes to {}", it.name, it.to);
    let mut told = teller.doing(wave, Some(format!("{} goes to {}", it.name, it.to)));
    let moved = hypervisor.go(it, |percent| {
        let words = format!("{} goes to {}: {percent} %", it.name, it.to);
        if percent / 10 > logged {
            logged = percent / 10;
            eprintln!("{words}");
        }
        if told.is_ok() {
            told = teller.doing(wave, Some(words));
        }
    });
    match moved {
        Ok(()) => {
            eprintln!("{} is on {} after {:.1} s", it.name, it.to, begin.elapsed().as_secs_f64());
            Ok(told.map(|()| Pace::AtOnce))
        }
        Err(MoveError::Refused(why)) => {
            let words = format!("{} could not be moved to {}: {why}", it.name, it.to);
            Ok(told.and_then(|()| teller.failed(wave, words)).map(|()| Pace::Calm))
        }
        Err(MoveError::Ended) => {
            eprintln!("{} has ended before it was on {}", it.name, it.to);
            Ok(told.map(|()| Pace::AtOnce))
        }
        Err(MoveError::Lost(away)) => Err(away),
    }
}

fn wish() -> Result<Option<Wish>> {
    match fs::read_to_string(WISH) {
        Ok(text) => serde_yaml::from_str(&text)
            .map(Some)
            .with_context(|| format!("{WISH} is not understood")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {WISH}")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "after a failure, and nobody tells when libvirt answers again"
)]
fn hold(pause: Duration) {
    thread::sleep(pause);
}
