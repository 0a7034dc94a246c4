/** "4 s", "2 min 5 s", "1 h 3 min": a duration in words, two units at most. */
export function durationWords(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return join(minutes, 'min', whole % 60, 's');
  return join(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
}

function join(big: number, bigUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${big} ${bigUnit}` : `${big} ${bigUnit} ${small} ${smallUnit}`;
}

/** "0:04", "12:30", "1:02:03": a running clock. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** "09:41" today, "Yesterday 09:41", "Mon 09:41" within a week, else "3 Nov 09:41". */
export function whenWords(iso: string, now: number): string {
  const at = new Date(iso);
  const time = `${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`;
  const days = dayNumber(new Date(now)) - dayNumber(at);
  if (days <= 0) return time;
  if (days === 1) return `Yesterday ${time}`;
  if (days < 7) return `${at.toLocaleDateString('en', { weekday: 'short' })} ${time}`;
  return `${at.getDate()} ${at.toLocaleDateString('en', { month: 'short' })} ${time}`;
}

function dayNumber(at: Date): number {
  return Math.round(Date.UTC(at.getFullYear(), at.getMonth(), at.getDate()) / 86_400_000);
}

/** "14:02:07.318" for the inspector, local time. */
export function stamp(at: number): string {
  const time = new Date(at);
  const two = (n: number) => String(n).padStart(2, '0');
  const ms = String(time.getMilliseconds()).padStart(3, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${ms}`;
}

/** "412 B", "3.1 kB", "12.4 MB", "1.2 GB". */
export function sizeWords(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB'];
  let [size, step] = [bytes / 1000, 0];
  // What would be rounded to 1000.0 is one of the next unit.
  while (size >= 999.95 && step < units.length - 1) [size, step] = [size / 1000, step + 1];
  return `${size.toFixed(1)} ${units[step]}`;
}
