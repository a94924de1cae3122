//! Heartbeats over gRPC on loopback: client, server and driver share this process and its cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use regionmeta_batch::pd::grpc::{GrpcPd, GrpcServer, GrpcSettings, ServerSettings};
use regionmeta_batch::pd::{EmbeddedPd, HeartbeatSender, HeartbeatStream, PdClient, RegionHeartbeat};
use regionmeta_bench::heartbeat::{Kind, Settings, driver, next};

use super::{Error, OverGrpc};

const LOOK_EVERY: Duration = Duration::from_micros(200);
/// How long the driver may take to hear what was sent.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(settings: &Settings) -> Result<OverGrpc, Error> {
    let (pd, mut sent) = driver(settings)?;
    let server = GrpcServer::start(Arc::new(pd.clone()), ([127, 0, 0, 1], 0).into(), ServerSettings::default())?;
    let client = GrpcPd::new(pd.cluster_id(), &[server.address().to_string()], GrpcSettings::default())?;
    let HeartbeatStream { mut sender, receiver: _open } = client.region_heartbeats()?;
    tell(&pd, &mut *sender, &mut sent, Kind::Changed)?; // the first time every region is new to the driver
    let (mut unchanged, mut changed) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        unchanged.push(tell(&pd, &mut *sender, &mut sent, Kind::Unchanged)?);
        changed.push(tell(&pd, &mut *sender, &mut sent, Kind::Changed)?);
    }
    Ok(OverGrpc { unchanged_per_s: median(unchanged), changed_per_s: median(changed) })
}

/// Heartbeats a second, from the first that is sent to the last that the driver has taken in.
fn tell(
    pd: &EmbeddedPd,
    sender: &mut dyn HeartbeatSender,
    sent: &mut [RegionHeartbeat],
    kind: Kind,
) -> Result<f64, Error> {
    for heartbeat in sent.iter_mut() {
        *heartbeat = next(heartbeat, kind)?;
    }
    // A stream keeps its order: when the last one is in, and that is seen by what it changes, all are.
    let last = sent.last_mut().ok_or("there are no regions")?;
    *last = next(last, Kind::Changed)?;
    let (region, started) = (last.region.clone(), Instant::now());
    for heartbeat in sent.iter() {
        sender.send(heartbeat)?;
    }
    while pd.regions().snapshot().get(region.id()).is_none_or(|entry| entry.region().epoch() != region.epoch()) {
        if started.elapsed() > PATIENCE {
            return Err("heartbeats got lost".into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(sent.len() as f64 / started.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
