//! What the quality samples of a call come to, for each participant.

use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::call::id::{CallId, UserId};
use crate::call::state::Quality;
use crate::store::error::StoreError;
use crate::store::rows::{self, IdText};
use crate::store::sqlite::Sqlite;

/// One figure over all samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub average: f64,
    /// The greatest.
    pub maximum: f64,
}

/// The samples of one participant, summed.
#[derive(Debug, Clone, PartialEq)]
pub struct QualitySummary {
    /// The participant's own id.
    pub participant: Uuid,
    /// Who sent them.
    pub user: UserId,
    /// How many there were; participants without any are left out.
    pub samples: u64,
    /// Milliseconds.
    pub jitter: Spread,
    /// Percent, 0 to 100.
    pub packet_loss: Spread,
    /// Milliseconds.
    pub round_trip_time: Spread,
    /// Kilobits per second, where any sample had it.
    pub bandwidth: Option<Spread>,
    /// The rating of the last sample.
    pub quality: Quality,
    /// How the averages would sound: see [`mean_opinion_score`].
    pub mean_opinion_score: f64,
}

impl Sqlite {
    /// The samples of a call, summed for each participant who sent any, in no fixed order.
    pub async fn quality(&self, call: CallId) -> Result<Vec<QualitySummary>, StoreError> {
        self.read("reading the quality of a call", move |connection| summaries(connection, call))
            .await
    }
}

fn summaries(connection: &Connection, call: CallId) -> rusqlite::Result<Vec<QualitySummary>> {
    const SQL: &str = "
        SELECT p.id, p.user_id, count(*), avg(m.jitter), max(m.jitter), avg(m.packet_loss),
            max(m.packet_loss), avg(m.round_trip_time), max(m.round_trip_time), avg(m.bandwidth),
            max(m.bandwidth),
            (SELECT l.quality FROM call_quality_metrics l
                WHERE l.call_id = m.call_id AND l.participant_id = m.participant_id
                ORDER BY l.timestamp DESC, l.id DESC LIMIT 1)
        FROM call_quality_metrics m
        JOIN call_participants p ON p.call_id = m.call_id AND p.id = m.participant_id
        WHERE m.call_id = ?1 GROUP BY m.participant_id";
    let mut statement = connection.prepare_cached(SQL)?;
    statement.query_map([IdText::from(call)], summary)?.collect()
}

fn summary(row: &Row<'_>) -> rusqlite::Result<QualitySummary> {
    let spread = |at: usize| -> rusqlite::Result<Spread> {
        Ok(Spread { average: row.get(at)?, maximum: row.get(at + 1)? })
    };
    let (jitter, packet_loss, round_trip_time) = (spread(3)?, spread(5)?, spread(7)?);
    let bandwidth: Option<f64> = row.get(9)?;
    Ok(QualitySummary {
        participant: rows::uuid(row, 0)?,
        user: rows::user(row, 1)?,
        samples: rows::natural(row, 2)?,
        jitter,
        packet_loss,
        round_trip_time,
        bandwidth: bandwidth.map(|_| spread(9)).transpose()?,
        quality: rows::word(row, 11, Quality::parse)?,
        mean_opinion_score: mean_opinion_score(
            jitter.average,
            packet_loss.average,
            round_trip_time.average,
        ),
    })
}

/// Estimates how a call with these averages (ms, percent, ms) sounds to people, from 1 (bad) to 4.5.
///
/// The E-model of ITU-T G.107, simplified as by R. G. Cole and J. H. Rosenbluth, "Voice over IP
/// performance monitoring" (ACM SIGCOMM CCR 31(2), 2001): `R = 94.2 - Id - Ie` with
/// `Id = 0.024 d + 0.11 (d - 177.3) [d > 177.3]` and, for G.711 with concealment and random loss,
/// `Ie = 30 ln(1 + 15 e)`; from R to the score by G.107, annex B. The delay `d` from mouth to ear is
/// half the round trip and a jitter buffer of twice the jitter.
pub fn mean_opinion_score(jitter: f64, packet_loss: f64, round_trip_time: f64) -> f64 {
    let delay = round_trip_time / 2.0 + 2.0 * jitter;
    let late = (delay - 177.3).max(0.0);
    let delay_impairment = 0.024 * delay + 0.11 * late;
    let loss_impairment = 30.0 * (15.0 * packet_loss / 100.0).ln_1p();
    let rating = (94.2 - delay_impairment - loss_impairment).clamp(0.0, 100.0);
    let score = 1.0 + 0.035 * rating + 7e-6 * rating * (rating - 60.0) * (100.0 - rating);
    // The polynomial dips just below 1 for the worst ratings.
    score.clamp(1.0, 4.5)
}
