import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { NEVER } from 'rxjs';
import { workOf } from '../../src/cli/program.js';

/** Whether what a command names is there: commands and options of vfio-rx, scripts of package.json. */

/** What npm does itself. */
const npmCommands = ['ci', 'exec', 'init', 'install', 'pack', 'pkg', 'test', 'start'];

export function unknownNames(command: string, root: string): readonly string[] {
  const words = command.replaceAll('\\\n', ' ').replace(/\s#.*$/, '').split(/\s+/).filter((word) => word !== '');
  const ofUs = words.findIndex((word) => word === 'vfio-rx');
  if (ofUs >= 0) {
    const help = helpOf(words[ofUs + 1] ?? '');
    if (help === undefined) return [`there is no command vfio-rx ${words[ofUs + 1] ?? ''}`];
    const options = words.slice(ofUs).filter((word) => /^--[a-z]/.test(word)).map((word) => word.replace(/=.*/, ''));
    return options.filter((option) => !new RegExp(`${option}(?![a-z-])`).test(help)).map((option) => `vfio-rx ${words[ofUs + 1] ?? ''} has no option ${option}`);
  }
  const npm = words.indexOf('npm');
  if (npm < 0) return [];
  const [verb = '', ...rest] = words.slice(npm + 1);
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly scripts: Readonly<Record<string, string>> };
  if (verb !== 'run') return npmCommands.includes(verb) ? [] : [`there is no npm ${verb}`];
  const script = rest.find((word) => !word.startsWith('-')) ?? '';
  return script in scripts ? [] : [`package.json has no script ${script}`];
}

function helpOf(name: string): string | undefined {
  const written: string[] = [];
  const args = name.startsWith('-') || name === '' ? ['--help'] : [name, '--help'];
  try {
    // Help ends by an error of commander.
    void workOf(args, { write: (text) => written.push(text) }, NEVER);
  } catch {
    // What it said is what counts.
  }
  const help = written.join('');
  return args.length === 2 && !help.includes(`vfio-rx ${name}`) ? undefined : help;
}
