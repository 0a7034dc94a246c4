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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;
    use crate::store::fixture;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn scores() {
        for (jitter, loss, trip, low, high) in [
            // A perfect line is R = 94.2, which G.107's annex B gives as 4.42.
            (0.0, 0.0, 0.0, 4.41, 4.43),
            (5.0, 0.0, 50.0, 4.35, 4.42),
            (20.0, 1.0, 100.0, 4.1, 4.35),
            (40.0, 3.0, 200.0, 3.5, 4.0),
            (60.0, 5.0, 300.0, 2.3, 3.3),
            (100.0, 20.0, 800.0, 1.0, 1.2),
            (1e9, 100.0, 1e9, 1.0, 1.0),
        ] {
            let score = mean_opinion_score(jitter, loss, trip);
            assert!((low..=high).contains(&score), "{jitter} {loss} {trip}: {score}");
        }
    }

    #[tokio::test]
    async fn samples_are_summed_by_participant() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        let mut last = fixture::sample(1, "alice", 3_000, 70.0);
        last.sample.bandwidth = Some(900.0);
        let samples = [
            fixture::sample(1, "alice", 1_000, 10.0),
            fixture::sample(1, "bob", 1_500, 5.0),
            last,
            fixture::sample(1, "alice", 2_000, 10.0),
            // Of another call.
            fixture::sample(2, "alice", 9_000, 1.0),
        ];
        for sample in samples {
            let record = Record::Sample(Box::new(sample));
            journal.reserve_expendable().unwrap().send(record, ()).await.unwrap();
        }
        let mut summaries = store.quality(fixture::call(1)).await.unwrap();
        summaries.sort_by(|a, b| a.user.cmp(&b.user));
        let [alice, bob] = &summaries[..] else { panic!("{summaries:?}") };
        assert_eq!((alice.samples, alice.quality), (3, Quality::Poor));
        assert!(close(alice.jitter.average, 30.0) && close(alice.jitter.maximum, 70.0));
        assert!(
            close(alice.round_trip_time.average, 80.0) && close(alice.packet_loss.maximum, 0.5)
        );
        assert_eq!(alice.bandwidth, Some(Spread { average: 900.0, maximum: 900.0 }));
        assert!(close(alice.mean_opinion_score, mean_opinion_score(30.0, 0.5, 80.0)));
        assert_eq!((bob.samples, bob.quality, bob.bandwidth), (1, Quality::Excellent, None));
        assert_eq!(store.quality(fixture::call(3)).await.unwrap(), []);
    }
}
