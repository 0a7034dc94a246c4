//! Quality samples and how a connection is rated by them.

use serde::{Deserialize, Serialize};

use crate::call::state::Quality;

/// One measurement by a client. Values are checked by `wire`: finite and not negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds.
    pub jitter: f64,
    /// Percent, 0 to 100.
    pub packet_loss: f64,
    /// Milliseconds.
    pub round_trip_time: f64,
    /// Kilobits per second.
    pub bandwidth: Option<f64>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// As the client words it, such as `1280x720`.
    pub resolution: Option<String>,
    /// As the client words it, such as `opus`.
    pub codec: Option<String>,
}

/// A rating with its upper bounds, all exclusive: jitter (ms), loss (%), round trip (ms).
type Bounds = (Quality, f64, f64, f64);

/// Contract, section 5; anything worse is poor.
const BOUNDS: [Bounds; 3] = [
    (Quality::Excellent, 20.0, 1.0, 100.0),
    (Quality::Good, 40.0, 3.0, 200.0),
    (Quality::Fair, 60.0, 5.0, 300.0),
];

impl Sample {
    /// The best rating of which all three figures stay below the bounds.
    pub fn rate(&self) -> Quality {
        let within = |&&(_, jitter, loss, trip): &&Bounds| {
            self.jitter < jitter && self.packet_loss < loss && self.round_trip_time < trip
        };
        BOUNDS.iter().find(within).map_or(Quality::Poor, |&(quality, ..)| quality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_the_worst_figure() {
        for (jitter, packet_loss, round_trip_time, rating) in [
            (0.0, 0.0, 0.0, Quality::Excellent),
            (19.9, 0.9, 99.9, Quality::Excellent),
            (20.0, 0.0, 0.0, Quality::Good),
            (0.0, 1.0, 0.0, Quality::Good),
            (0.0, 0.0, 100.0, Quality::Good),
            (39.0, 2.9, 200.0, Quality::Fair),
            (60.0, 0.0, 0.0, Quality::Poor),
            (0.0, 5.0, 0.0, Quality::Poor),
            (0.0, 0.0, 300.0, Quality::Poor),
        ] {
            let sample = Sample {
                jitter,
                packet_loss,
                round_trip_time,
                bandwidth: None,
                fps: None,
                resolution: None,
                codec: None,
            };
            assert_eq!(sample.rate(), rating, "{jitter} {packet_loss} {round_trip_time}");
        }
    }
}
