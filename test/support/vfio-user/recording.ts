import { readFileSync } from 'node:fs';

/** A file descriptor that went along: an eventfd, or a file with its size and what it held then. Files are known by their number in the recording. */
export type RecordedFd = { readonly kind: 'eventfd'; readonly id: number } | { readonly kind: 'file'; readonly id: number; readonly size: number; readonly holds: string };

/** What happened between a client and a server, in order. Bytes as `packed` writes them. */
export type RecordedLine =
  | { readonly origin: string; readonly facts: unknown; readonly time: string }
  | { readonly from: 'client' | 'server'; readonly bytes: string; readonly fds?: readonly RecordedFd[] }
  /** The server has added to an eventfd. */
  | { readonly signal: number; readonly count: string }
  /** The server has written into a file, the client's or its own. */
  | { readonly file: number; readonly offset: number; readonly bytes: string };

const shortestRun = 8;

/** Hexadecimal, and `41*1024` for a run of one byte. */
export function packed(bytes: Uint8Array): string {
  const words: string[] = [];
  let plain = '';
  for (let at = 0; at < bytes.length;) {
    const byte = bytes[at] ?? 0;
    let end = at + 1;
    while (end < bytes.length && bytes[end] === byte) end += 1;
    const text = byte.toString(16).padStart(2, '0');
    if (end - at < shortestRun) plain += text.repeat(end - at);
    else {
      if (plain !== '') words.push(plain);
      plain = '';
      words.push(`${text}*${end - at}`);
    }
    at = end;
  }
  if (plain !== '') words.push(plain);
  return words.join(' ');
}

export function unpacked(text: string): Uint8Array<ArrayBuffer> {
  const parts = text.split(' ').map((word) => {
    const [hex = '', times] = word.split('*');
    const bytes = Buffer.from(hex, 'hex');
    return times === undefined ? bytes : Buffer.alloc(Number(times), bytes);
  });
  return Uint8Array.from(Buffer.concat(parts));
}

export function readRecording(path: string): readonly RecordedLine[] {
  return readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as RecordedLine);
}
