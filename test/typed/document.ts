/** Pure: what there is to type in a document, in the order in which it stands there. test/typed/README.md says how it is written. */

/** Where documents are typed: in a clone of the repository, or where the package was installed. */
export const kinds = ['clone', 'installed'] as const;
export type Kind = typeof kinds[number];

export type Step =
  /** A program that the reader writes. */
  | { readonly kind: 'file'; readonly line: number; readonly name: string; readonly text: string }
  /** A command that the reader types, and the lines that come back. */
  | { readonly kind: 'command'; readonly line: number; readonly command: string; readonly wanted: readonly string[]; readonly only?: Kind }
  /** A command that cannot be typed here: what it names must exist all the same. */
  | { readonly kind: 'named'; readonly line: number; readonly command: string; readonly because: string };

export interface Document {
  readonly steps: readonly Step[];
  /** What breaks the convention: `line: why`. */
  readonly faults: readonly string[];
}

interface Block {
  /** Of the fence. */
  readonly line: number;
  /** What stands behind the fence. */
  readonly info: string;
  readonly lines: readonly string[];
}

export function documentOf(markdown: string): Document {
  const faults: string[] = [];
  const steps = blocksOf(markdown).flatMap((block): readonly Step[] => {
    const fault = (line: number, why: string): readonly Step[] => {
      faults.push(`${line}: ${why}`);
      return [];
    };
    const [language = '', ...words] = block.info.split(/\s+/);
    if (language === 'sh') return commandsOf(block, words.join(' '), fault);
    const [first = ''] = block.lines;
    const name = /^\/\/ (\S+\.[cm]?[jt]s)$/.exec(first)?.[1];
    if ((language === 'ts' || language === 'js') && name !== undefined) return [{ kind: 'file', line: block.line, name, text: `${block.lines.join('\n')}\n` }];
    const command = language === '' ? block.lines.findIndex((line) => /^(\$|npm|npx|vfio-rx) /.test(line)) : -1;
    return command < 0 ? [] : fault(block.line + 1 + command, 'a command stands in a block that nothing types: begin the block with ```sh and the command with "$ "');
  });
  return { steps, faults };
}

function commandsOf({ line: fence, lines }: Block, mark: string, fault: (line: number, why: string) => readonly Step[]): readonly Step[] {
  const because = mark === 'real-device' ? 'it needs a device' : /^not-typed: (.+)/.exec(mark)?.[1];
  const only = kinds.find((kind) => kind === mark);
  if (mark !== '' && because === undefined && only === undefined) return fault(fence, `"sh ${mark}" is none of sh, sh ${kinds.join(', sh ')}, sh real-device, sh not-typed: why`);
  const starts = lines.flatMap((line, at) => (line.startsWith('$ ') ? [at] : []));
  if (starts[0] !== 0) return fault(fence + 1, 'a block of commands begins with "$ "');
  return starts.map((start, index) => {
    let last = start;
    while (lines[last]?.endsWith('\\') === true) last += 1;
    const line = fence + 1 + start;
    const command = lines.slice(start, last + 1).join('\n').slice(2);
    if (because !== undefined) return { kind: 'named', line, command, because };
    const wanted = withoutEdges(lines.slice(last + 1, starts[index + 1]));
    return { kind: 'command', line, command, wanted, ...(only === undefined ? {} : { only }) };
  });
}

/** The fenced blocks, also those of lists, without their indentation. */
function blocksOf(markdown: string): readonly Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const [, indent = '', fence, info = ''] = /^( *)(`{3,})(.*)$/.exec(lines[at] ?? '') ?? [];
    if (fence === undefined) continue;
    const begin = at + 1;
    const found = lines.findIndex((line, index) => index >= begin && line.trim() === fence);
    const end = found < 0 ? lines.length : found;
    blocks.push({ line: at + 1, info: info.trim(), lines: lines.slice(begin, end).map((line) => line.slice(Math.min(indent.length, line.search(/\S|$/)))) });
    at = end;
  }
  return blocks;
}

/** Empty lines before the next command, or before the end, are there for the eye. */
export function withoutEdges(lines: readonly string[]): readonly string[] {
  const full = lines.map((line) => line.trim() !== '');
  return lines.slice(Math.max(full.indexOf(true), 0), full.lastIndexOf(true) + 1);
}
