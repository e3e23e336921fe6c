import { parseArgs } from 'node:util';
import { profiles, type Profile } from './profiles.js';

/** What can be spoiled on purpose, so that a red verdict can be seen: each is a fault that the device must notice. */
export const sabotages = {
  stale: 'the worker confirms that it let go, and writes through its old view once more',
  'skip-ack': 'the pipeline does everything and sends no ack',
  'early-ack': 'the pipeline acks before it unmaps',
  lose: 'a guest counts a number that it never wrote',
} as const;

export type Sabotage = keyof typeof sabotages;

export interface JobOptions {
  /** Against the sample driver in the virtual machine instead of a device in this process. */
  readonly kernel: boolean;
  /** One JSON object a line instead of text. */
  readonly json: boolean;
  /** How long the guests write, spread over the rounds, s. */
  readonly seconds: number;
  /** How often device_state goes into the saving group and back. */
  readonly rounds: number;
  readonly sabotage: Sabotage | undefined;
  /** How the driver says what it demands, and how it is answered. */
  readonly profile: Profile;
}

export const help = `The main job: two guests write numbers into a device while its vendor driver takes the mapped regions away and
gives them back; in the end the device says what arrived.

  npm start                      a software device, in this process
  npm start -- --kernel          the sample driver on Linux 6.1, in a virtual machine

  --profile <name>   how the driver says what it demands, and how it is answered (doorbell-value):
${Object.entries(profiles)
  .map(([name, { about }]) => `                       ${name.padEnd(16)}  ${about}`)
  .join('\n')}
  --seconds <n>      how long the guests write, 0.2 to 20 (3)
  --rounds <n>       how often device_state is driven into the saving group and back, 1 to 50 (6; --kernel: 3)
  --json             events and verdict as one JSON object a line
  --sabotage <what>  spoils the run on purpose, to see the verdict turn red:
${Object.entries(sabotages)
  .map(([name, what]) => `                       ${name.padEnd(9)}  ${what}`)
  .join('\n')}
  --help

Exit code: 0 where the verdict is good, 1 where it is not, 2 for a wrong option, 130 after Ctrl-C.
`;

/** An option that cannot be: exit code 2. */
export class UsageError extends Error {}

/** The options, or `help`. Throws UsageError. */
export function readOptions(args: readonly string[]): JobOptions | 'help' {
  const { values } = parsed(args);
  if (values.help === true) return 'help';
  const kernel = values.kernel === true;
  return {
    kernel,
    json: values.json === true,
    seconds: numberIn('--seconds', values.seconds, 3, 0.2, 20),
    rounds: wholeNumber('--rounds', numberIn('--rounds', values.rounds, kernel ? 3 : 6, 1, 50)),
    sabotage: values.sabotage === undefined ? undefined : oneOf('--sabotage', sabotages, values.sabotage),
    profile: oneOf('--profile', profiles, values.profile ?? 'doorbell-value'),
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        kernel: { type: 'boolean' },
        json: { type: 'boolean' },
        seconds: { type: 'string' },
        rounds: { type: 'string' },
        sabotage: { type: 'string' },
        profile: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    // Node's own advice behind the first sentence is about other programs.
    throw new UsageError((error instanceof Error ? error.message : String(error)).replace(/\.\s.*$/s, ''));
  }
}

function numberIn(option: string, text: string | undefined, fallback: number, least: number, most: number): number {
  const value = text === undefined ? fallback : text.trim() === '' ? NaN : Number(text);
  if (value >= least && value <= most) return value;
  throw new UsageError(`${option} takes a number from ${least} to ${most}, not '${text ?? ''}'`);
}

function wholeNumber(option: string, value: number): number {
  if (Number.isInteger(value)) return value;
  throw new UsageError(`${option} takes a whole number, not ${value}`);
}

function oneOf<Known extends Readonly<Record<string, unknown>>>(option: string, known: Known, text: string): keyof Known {
  if (Object.hasOwn(known, text)) return text;
  throw new UsageError(`${option} takes one of ${Object.keys(known).join(', ')}, not '${text}'`);
}
