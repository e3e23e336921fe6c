import type { Screen } from './show.js';

/** What of stdout a screen is made of. */
export type Out = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly hasColors?: (env: object) => boolean };

/** How things can be shown there. */
export function screenOf(out: Out, env: NodeJS.ProcessEnv): Omit<Screen, 'json'> {
  const isTerminal = out.isTTY === true;
  return {
    write: (text) => void out.write(text),
    // One that is dumb moves no cursor.
    terminal: isTerminal && env['TERM'] !== 'dumb' ? out : undefined,
    // By NO_COLOR and TERM.
    color: isTerminal && out.hasColors?.(env) === true,
  };
}
