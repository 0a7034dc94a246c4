/**
 * Every REST body and Socket.IO event that passes between this page and the call service, as the service's
 * contract has them. Nothing else in the page declares the shape of something that crosses the wire.
 */

export type CallType = 'audio' | 'video';

export const LIVE_STATES = ['initiating', 'ringing', 'connecting', 'connected', 'reconnecting'] as const;
export const FINAL_STATES = ['ended', 'failed', 'busy', 'declined', 'missed', 'cancelled'] as const;
export type CallState = (typeof LIVE_STATES)[number] | (typeof FINAL_STATES)[number];

export type EndReason =
  'normal' | 'timeout' | 'declined' | 'busy' | 'failed' | 'cancelled' | 'network_error' | 'no_answer';

export type ConnectionState =
  | 'invited'
  | 'ringing'
  | 'connecting'
  | 'connected'
  | 'reconnecting'
  | 'left'
  | 'declined'
  | 'missed'
  | 'busy'
  | 'removed';

export const QUALITIES = ['poor', 'fair', 'good', 'excellent'] as const;
export type Quality = (typeof QUALITIES)[number];

export type ErrorCode =
  | 'invalid_request'
  | 'unauthorized'
  | 'forbidden'
  | 'not_invited'
  | 'removed'
  | 'not_found'
  | 'method_not_allowed'
  | 'already_in_call'
  | 'busy'
  | 'call_full'
  | 'not_joined'
  | 'conflict'
  | 'call_over'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'rate_limited'
  | 'internal'
  | 'no_media_server'
  | 'draining'
  | 'media_unavailable'
  | 'storage_full'
  | 'history_unavailable'
  | 'recording_unavailable'
  | 'cluster_unavailable'
  | 'too_many_sockets';

/** Times are ISO 8601 in UTC with milliseconds, durations are seconds. */
export interface Call {
  id: string;
  roomId: string;
  type: CallType;
  state: CallState;
  initiatorId: string;
  chatId: string | null;
  isGroup: boolean;
  maxParticipants: number;
  /** When two were connected, not when it was dialled (that is `createdAt`). */
  startedAt: string | null;
  endedAt: string | null;
  duration: number | null;
  endReason: EndReason | null;
  /** Whether it is or was recorded. */
  recordingEnabled: boolean;
  recordingUrl: string | null;
  createdAt: string;
  updatedAt: string;
  epoch: number;
  seq: number;
}

export interface Participant {
  id: string;
  callId: string;
  userId: string;
  role: 'initiator' | 'participant';
  joinedAt: string | null;
  leftAt: string | null;
  duration: number | null;
  connectionState: ConnectionState;
  audioEnabled: boolean;
  videoEnabled: boolean;
  screenShareEnabled: boolean;
  connectionQuality: Quality | null;
}

export type MediaSettings = Pick<Participant, 'audioEnabled' | 'videoEnabled' | 'screenShareEnabled'>;

/** How media is joined: a LiveKit room, or peer to peer over the `webrtc:*` relay. */
export type MediaToken =
  | { media: 'livekit'; token: string; url: string; roomName: string; identity: string }
  | { media: 'peer'; token: null; url: null; roomName: string; identity: string };
export type RoomToken = Extract<MediaToken, { media: 'livekit' }>;

export interface IceServer {
  urls: string[];
  username?: string | null;
  credential?: string | null;
}

export interface Invitation {
  callId: string;
  roomId: string;
  type: CallType;
  initiatorId: string;
  initiatorName: string | null;
  chatId: string | null;
  isGroup: boolean;
  participants: (string | Participant)[];
  expiresAt: string;
}

/* ---- REST ---------------------------------------------------------------------------------------- */

export type Answer<T> =
  | { success: true; data: T; message?: string }
  | { success: false; error: string; code: ErrorCode; data?: unknown };

export interface StartBody {
  type: CallType;
  participantIds: string[];
  chatId?: string;
  videoEnabled: boolean;
  audioEnabled: boolean;
  ring?: 'all' | 'none';
}

export interface StartAnswer {
  call: Call;
  token: MediaToken;
  iceServers: IceServer[];
  unavailable?: { userId: string; why: string }[];
}

export type JoinBody = Pick<StartBody, 'videoEnabled' | 'audioEnabled'>;

export interface JoinAnswer {
  call: Call;
  token: MediaToken;
  iceServers: IceServer[];
  participants: Participant[];
}

export type TokenAnswer = Pick<JoinAnswer, 'token' | 'iceServers'>;
export type CallAnswer = Pick<JoinAnswer, 'call' | 'participants'>;

export type HistoryCall = Call & { participants: Participant[]; initiator: Participant | null };

export interface HistoryAnswer {
  calls: HistoryCall[];
  pagination: { limit: number; offset: number; total: number; nextCursor: string | null };
}

export interface ActiveAnswer {
  calls: HistoryCall[];
}

/** All samples of one figure. */
export interface Spread {
  average: number;
  maximum: number;
}

/** One participant's samples of a call, summed. */
export interface QualitySummary {
  userId: string;
  samples: number;
  jitter: Spread;
  packetLoss: Spread;
  roundTripTime: Spread;
  bandwidth: Spread | null;
  quality: Quality;
  meanOpinionScore: number;
}

export interface QualityAnswer {
  participants: QualitySummary[];
}

export const RECORDING_STATUSES = ['recording', 'processing', 'completed', 'failed'] as const;
export type RecordingStatus = (typeof RECORDING_STATUSES)[number];

/** A recording of a call; where it lies (`s3Key`, `url`) and its size are known once it is completed. */
export interface Recording {
  id: string;
  callId: string;
  startedAt: string;
  endedAt: string | null;
  duration: number | null;
  /** Bytes. */
  fileSize: number | null;
  s3Key: string | null;
  url: string | null;
  status: RecordingStatus;
}

export interface RecordingAnswer {
  recording: Recording;
}

export interface RecordingsAnswer {
  recordings: Recording[];
}

export interface OnlineUser {
  userId: string;
  username: string;
  sockets: number;
}

/* ---- Socket.IO: from the service ------------------------------------------------------------------ */

/** What every `call:*` event but `call:sync` and `call:error` carries. */
export interface Stamp {
  callId: string;
  seq: number;
  timestamp: string;
}

export interface CallEvents {
  'call:incoming': Stamp & { invitation: Invitation };
  'call:ringing': Stamp & { userId: string };
  'call:accepted': Stamp & { userId: string };
  'call:declined': Stamp & { userId: string };
  'call:handled_elsewhere': Stamp & { userId?: string };
  'call:cancelled': Stamp & { userId?: string | null; reason?: EndReason };
  'call:ended': Stamp & {
    userId?: string | null;
    reason: EndReason;
    state?: CallState;
    duration?: number | null;
  };
  'call:ending_soon': Stamp & { endsAt?: string };
  'call:participant_joined': Stamp & { userId: string; participant?: Participant };
  'call:participant_left': Stamp & { userId: string; reason?: string };
  'call:participant_updated': Stamp & { userId: string; participant: Participant };
  'call:state_changed': Stamp & {
    state: CallState;
    startedAt?: string | null;
    participants?: Participant[];
  };
  'call:quality_changed': Stamp & { userId: string; quality: Quality; previous: Quality | null };
  /** Servers with fresh credentials, before the old ones run out. */
  'call:ice_servers': Stamp & { iceServers: IceServer[] };
  'call:recording_started': Stamp & { userId: string; recordingId: string };
  /** `userId` is null where nobody stopped it: it ended by itself. */
  'call:recording_stopped': Stamp & { userId: string | null; recordingId: string };
}

export type CallEventName = keyof CallEvents;
export type CallEvent = { [K in CallEventName]: { event: K; data: CallEvents[K] } }[CallEventName];

/** A live call of ours, with the invitation where we are being rung right now. */
export type SyncCall = CallAnswer & { invitation?: Invitation };

export interface SyncEvent {
  calls: SyncCall[];
  timestamp: string;
  /** Milliseconds between the quality samples the service wants. */
  qualityCheckInterval?: number;
  /** Milliseconds that a call rings. */
  ringingTimeout?: number;
  /** The node that the socket is on, where the service has several. */
  node?: string;
}

export interface ErrorEvent {
  error: string;
  code: ErrorCode;
  event?: string;
  callId?: string;
}

export type RelayKind = 'offer' | 'answer' | 'ice_candidate';

/** `webrtc:*`: the payload's name is the event's, but `candidate` for `webrtc:ice_candidate`. */
export interface Relayed {
  callId: string;
  fromUserId: string;
  offer?: unknown;
  answer?: unknown;
  candidate?: unknown;
}

/* ---- Socket.IO: to the service -------------------------------------------------------------------- */

export interface QualitySample {
  /** Milliseconds. */
  jitter: number;
  /** Percent. */
  packetLoss: number;
  /** Milliseconds. */
  roundTripTime: number;
  /** Kilobits a second. */
  bandwidth: number;
  fps?: number;
  resolution?: string;
  codec?: string;
}

/** What of a participant the initiator may turn off. */
export const SOURCES = ['audio', 'video', 'screen_share'] as const;
export type Source = (typeof SOURCES)[number];

export interface ClientEvents {
  'call:ringing': { callId: string };
  'call:accept': { callId: string };
  'call:decline': { callId: string };
  'call:end': { callId: string; reason?: EndReason };
  /** For clients of a media server that does not tell the service itself who is there: this page has none. */
  'call:connected': { callId: string };
  'call:toggle_audio': { callId: string; enabled: boolean };
  'call:toggle_video': { callId: string; enabled: boolean };
  'call:toggle_screen_share': { callId: string; enabled: boolean };
  'call:invite': { callId: string; participantIds: string[] };
  'call:remove_participant': { callId: string; userId: string };
  'call:mute_participant': { callId: string; userId: string; source: Source };
  'call:quality_update': { callId: string } & QualitySample;
  'call:resume': { callId: string; lastSeq: number };
  'auth:refresh': { token: string };
  'webrtc:offer': { callId: string; targetUserId: string; offer: unknown };
  'webrtc:answer': { callId: string; targetUserId: string; answer: unknown };
  'webrtc:ice_candidate': { callId: string; targetUserId: string; candidate: unknown };
}

export type ClientEventName = keyof ClientEvents;

export type ResumeAnswer =
  { mode: 'events'; events: CallEvent[] } | { mode: 'state'; call: Call; participants: Participant[] };

/** Seconds of RINGING_TIMEOUT where the service does not say otherwise. */
export const DEFAULT_RINGING_SECONDS = 60;
/** Milliseconds of QUALITY_CHECK_INTERVAL where the service does not say otherwise. */
export const QUALITY_INTERVAL_MS = 5000;

/** Live: not ended in any way. */
export function isLive(state: CallState): boolean {
  return (LIVE_STATES as readonly string[]).includes(state);
}

/** In the call now: joined, and not gone from it. */
export function isIn(participant: Pick<Participant, 'connectionState'>): boolean {
  return ['connecting', 'connected', 'reconnecting'].includes(participant.connectionState);
}

/** Asked, and still free to answer. */
export function isAsked(participant: Participant): boolean {
  return participant.connectionState === 'invited' || participant.connectionState === 'ringing';
}
