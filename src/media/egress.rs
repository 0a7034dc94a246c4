//! Recordings through LiveKit's egress.
//!
//! Egress is a service of its own behind LiveKit, and may be missing: LiveKit then answers after 21 s
//! that there is no response, or at once that nothing is connected. Here it has the same time as any
//! request, and a breaker of the rooms does not hear of its failures.

use std::sync::Arc;

use livekit_api::services::ServiceResult;
use livekit_api::services::egress::{
    EgressListFilter, EgressListOptions, EgressOutput, RoomCompositeOptions,
};
use livekit_protocol as proto;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::call::id::CallId;
use crate::call::record::RecordingRecord;
use crate::call::recording::Recording;
use crate::call::state::{CallType, RecordingStatus};
use crate::call::time::Timestamp;
use crate::config::livekit::{RecordingTarget, Recordings};
use crate::media::error::{Kind, MediaError};
use crate::media::livekit::{LiveKit, answered};

/// Recordings are named after LiveKit's egress: the same egress is the same recording, whoever tells of
/// it (RFC 9562, section 5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6c9f_2f7e_53a1_4f0b_9d1c_0a7b_e24b_5d11);

/// How a recording is doing, as LiveKit tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The recording's id.
    pub id: Uuid,
    /// LiveKit's id of it.
    pub egress: Arc<str>,
    /// When it began, where that is known.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What has become of it.
    pub status: RecordingStatus,
    /// Whole seconds of its file.
    pub duration: Option<u64>,
    /// Bytes of its file.
    pub file_size: Option<u64>,
    /// The file's name.
    pub key: Option<Arc<str>>,
    /// Where LiveKit put it.
    pub location: Option<Arc<str>>,
    /// Where it was asked to put it.
    pub asked: Option<Arc<str>>,
}

impl Progress {
    /// Whether it is a recording of `call` that this service asked for and that is not over.
    pub fn goes_on_for(&self, call: CallId) -> bool {
        let ours = self.asked.as_ref().is_some_and(|it| it.contains(&format!("{call}/")));
        ours && self.status == RecordingStatus::Recording
    }
}

/// The recording that is LiveKit's egress of that name.
fn id_of(egress: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, egress.as_bytes())
}

impl LiveKit {
    /// Whether recordings have somewhere to go.
    pub fn records(&self) -> bool {
        self.settings.recordings.is_some()
    }

    /// Begins to record a call.
    pub async fn start_egress(
        &self,
        call: CallId,
        call_type: CallType,
        now: Timestamp,
    ) -> Result<Recording, MediaError> {
        const DURING: &str = "starting a recording";
        let Some(recordings) = &self.settings.recordings else {
            return Err(MediaError::new(DURING, Kind::Refused));
        };
        let (room, key) = (call.room(), key(recordings, call, call_type, now));
        let options = RoomCompositeOptions {
            audio_only: call_type == CallType::Audio,
            ..RoomCompositeOptions::default()
        };
        let outputs = vec![EgressOutput::File(output(recordings, &key, call_type))];
        let asked = async move {
            let api = self.api.egress();
            Box::pin(api.start_room_composite_egress(&room, outputs, options)).await
        };
        let started = self.ask_egress(DURING, asked).await?;
        let egress: Arc<str> = started.egress_id.into();
        Ok(Recording { id: id_of(&egress), egress, started_at: now, key: key.into() })
    }

    /// Ends a recording; its file comes later.
    pub async fn stop_egress(&self, egress: &str) -> Result<(), MediaError> {
        let egress = egress.to_owned();
        let asked = async move { self.api.egress().stop_egress(&egress).await.map(|_| ()) };
        match self.ask_egress("stopping a recording", asked).await {
            // What is over can't be stopped.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Refused) => Ok(()),
            other => other,
        }
    }

    /// How the recordings of a call are doing.
    pub async fn egresses(&self, call: CallId) -> Result<Vec<Progress>, MediaError> {
        let filter = EgressListFilter::Room(call.room());
        let options = EgressListOptions { filter, ..EgressListOptions::default() };
        let asked = async move { self.api.egress().list_egress(options).await };
        let found = self.ask_egress("listing recordings", asked).await?;
        Ok(found.iter().filter_map(Progress::of).collect())
    }

    /// What is to be kept of a recording of `call`; `now` stands in for a begin that nobody told.
    pub fn recorded(&self, call: CallId, it: &Progress, now: Timestamp) -> RecordingRecord {
        let public = self.settings.recordings.as_ref().and_then(|it| it.public_url.as_ref());
        let key = it.key.as_ref().map(|key| self.relative(key));
        let url = match (public, &key) {
            (Some(base), Some(key)) => Some(Arc::from(format!("{base}{key}"))),
            (Some(_) | None, _) => it.location.clone(),
        };
        RecordingRecord {
            id: it.id,
            call,
            started_at: it.started_at.unwrap_or(now),
            ended_at: it.ended_at,
            duration: it.duration,
            file_size: it.file_size,
            key,
            url: url.filter(|_| it.status == RecordingStatus::Completed),
            status: it.status,
        }
    }

    /// A file's name without the folder it is in.
    fn relative(&self, key: &Arc<str>) -> Arc<str> {
        match self.settings.recordings.as_ref().map(|it| &it.target) {
            Some(RecordingTarget::Folder(folder)) => {
                let inside = key.strip_prefix(&**folder).and_then(|it| it.strip_prefix('/'));
                inside.map_or_else(|| Arc::clone(key), Arc::from)
            }
            Some(RecordingTarget::Bucket { .. }) | None => Arc::clone(key),
        }
    }

    fn ask_egress<'a, T: 'a>(
        &'a self,
        during: &'static str,
        asked: impl Future<Output = ServiceResult<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T, MediaError>> + Send + 'a {
        let asked = Box::pin(asked);
        let limit = self.settings.timeout;
        async move { answered(during, timeout(limit, asked).await) }
    }
}

/// Where a recording that begins now goes. Nothing in it comes from a client.
fn key(recordings: &Recordings, call: CallId, call_type: CallType, now: Timestamp) -> String {
    let ending = match call_type {
        CallType::Audio => "ogg",
        CallType::Video => "mp4",
    };
    format!("{}{call}/{}.{ending}", recordings.prefix, now.0)
}

fn output(recordings: &Recordings, key: &str, call_type: CallType) -> proto::EncodedFileOutput {
    use proto::encoded_file_output::Output;
    let (filepath, output) = match &recordings.target {
        RecordingTarget::Folder(folder) => (format!("{folder}/{key}"), None),
        RecordingTarget::Bucket { bucket, region, endpoint, access_key, secret, path_style } => {
            let s3 = proto::S3Upload {
                access_key: access_key.as_ref().to_owned(),
                secret: secret.expose().to_owned(),
                region: region.as_ref().to_owned(),
                endpoint: endpoint.as_ref().to_owned(),
                bucket: bucket.as_ref().to_owned(),
                force_path_style: *path_style,
                ..proto::S3Upload::default()
            };
            (key.to_owned(), Some(Output::S3(s3)))
        }
    };
    let file_type = match call_type {
        CallType::Audio => proto::EncodedFileType::Ogg,
        CallType::Video => proto::EncodedFileType::Mp4,
    };
    proto::EncodedFileOutput {
        file_type: i32::from(file_type),
        filepath,
        disable_manifest: true,
        output,
    }
}

impl Progress {
    /// Reads what LiveKit tells of an egress; `None` for one without a name.
    pub(super) fn of(it: &proto::EgressInfo) -> Option<Self> {
        use proto::EgressStatus as Said;
        let file = it.file_results.first();
        let has_file = file.is_some_and(|it| it.size > 0);
        let status = match it.status() {
            Said::EgressStarting | Said::EgressActive => RecordingStatus::Recording,
            Said::EgressEnding => RecordingStatus::Processing,
            Said::EgressComplete => RecordingStatus::Completed,
            // What was recorded up to the limit is there.
            Said::EgressLimitReached if has_file => RecordingStatus::Completed,
            Said::EgressFailed | Said::EgressAborted | Said::EgressLimitReached => {
                RecordingStatus::Failed
            }
        };
        let over = matches!(status, RecordingStatus::Completed | RecordingStatus::Failed);
        let text = |it: &String| (!it.is_empty()).then(|| Arc::from(it.as_str()));
        if it.egress_id.is_empty() {
            return None;
        }
        Some(Self {
            id: id_of(&it.egress_id),
            egress: it.egress_id.as_str().into(),
            started_at: time(it.started_at),
            ended_at: time(it.ended_at).or_else(|| time(it.updated_at).filter(|_| over)),
            status,
            duration: file.and_then(|it| natural(it.duration / 1_000_000_000)),
            file_size: file.and_then(|it| natural(it.size)),
            key: file.and_then(|it| text(&it.filename)),
            location: file.and_then(|it| text(&it.location)),
            asked: asked(it).as_ref().and_then(text),
        })
    }
}

/// The file that a recording of a whole room was asked for.
fn asked(it: &proto::EgressInfo) -> Option<String> {
    match &it.request {
        Some(proto::egress_info::Request::RoomComposite(request)) => {
            request.file_outputs.first().map(|it| it.filepath.clone())
        }
        Some(_) | None => None,
    }
}

/// LiveKit counts in nanoseconds; zero is not known.
fn time(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then_some(Timestamp(nanos / 1_000_000))
}

fn natural(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}
