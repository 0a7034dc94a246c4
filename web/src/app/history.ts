import { batch, computed } from '@preact/signals';
import { wasMissed } from '../call/words';
import { isLive } from '../contract';
import { browser } from '../lib/keep';
import * as api from './api';
import { history, historyCursor, historyProblem, historyTotal, seenUntil, session } from './store';

/** How many calls are fetched at a time. */
const PAGE = 30;

/** Missed calls that have not been looked at. */
export const missedCount = computed(() => {
  const me = session.value?.userId;
  if (me === undefined) return 0;
  return history.value.filter(
    (call) =>
      call.createdAt > seenUntil.value &&
      !isLive(call.state) &&
      wasMissed({ call, participants: call.participants }, me),
  ).length;
});

/** The newest calls. */
export async function refreshHistory(): Promise<void> {
  if (session.value === null) return;
  try {
    const { calls, pagination } = await api.history(null, PAGE);
    batch(() => {
      history.value = calls;
      historyTotal.value = pagination.total;
      historyCursor.value = pagination.nextCursor;
      historyProblem.value = null;
    });
  } catch {
    historyProblem.value = 'The history cannot be read now.';
  }
}

export async function olderHistory(): Promise<void> {
  if (historyCursor.value === null) return;
  try {
    const { calls, pagination } = await api.history(historyCursor.value, PAGE);
    batch(() => {
      const known = new Set(history.value.map((call) => call.id));
      history.value = [...history.value, ...calls.filter((call) => !known.has(call.id))];
      historyCursor.value = pagination.nextCursor;
    });
  } catch {
    historyProblem.value = 'Older calls cannot be read now.';
  }
}

/** The missed calls have been looked at. */
export function markSeen(): void {
  const newest = history.value[0]?.createdAt ?? '';
  if (newest <= seenUntil.value) return;
  seenUntil.value = newest;
  browser.write(`seen.${session.value?.userId ?? ''}`, newest);
}

export function recallSeen(userId: string): void {
  const kept = browser.read(`seen.${userId}`);
  seenUntil.value = typeof kept === 'string' ? kept : '';
}
