import { CommanderError } from 'commander';
import { NEVER } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { workOf } from '../../src/cli/program.js';
import { version } from '../../src/cli/version.js';

afterEach(() => void vi.restoreAllMocks());

/** What the arguments come to: help, a complaint, or work, which is not begun. */
function said(...args: readonly string[]): { readonly out: string; readonly error: string; readonly exit: number | 'works' } {
  const out: string[] = [];
  const error: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => error.push(text as string) > 0);
  const all = (exit: number | 'works') => ({ out: out.join(''), error: error.join(''), exit });
  try {
    void workOf(args, { write: (text) => void out.push(text) }, NEVER);
    return all('works');
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    return all(thrown.exitCode);
  }
}

describe('vfio-rx', () => {
  it('helps, with all commands and with one', () => {
    const all = said('--help');
    for (const command of ['list', 'doctor', 'info', 'watch', 'demo', 'migrate', 'receive', 'resolve', 'serve', 'conformance', 'record', 'replay', 'render']) {
      expect(all.out).toContain(`\n  ${command} [options]`);
      expect(said(command, '--help')).toMatchObject({ exit: 0, error: '', out: expect.stringMatching(command === 'render' ? /--svg/ : /--json .*\n[\s\S]*Ends with 0/) as unknown });
    }
    expect(all).toMatchObject({ exit: 0, error: '' });
    expect(said()).toMatchObject({ exit: 1, out: '', error: all.out });
  });

  it.each(['migrate --to <ADDRESS> --journal <FILE>', 'receive --at <ADDRESS> --journal <FILE>', 'resolve (--to <ADDRESS> | --at <ADDRESS>) --journal <FILE>'])('%s: its usage begins with what it must have', (usage) => {
    const { out } = said(usage.replace(/ .*/, ''), '--help');
    expect(out.split('\n')[0]).toMatch(`Usage: npx vfio-rx ${usage} [options]`);
    expect(out.indexOf('--journal <FILE>  ')).toBeLessThan(out.indexOf('--tls-certificate'));
  });

  it.each(['--version', '-V'])('%s: says which version it is', (flag) => {
    expect(said(flag)).toEqual({ exit: 0, error: '', out: `${version}\n` });
  });

  it.each([
    ['bla', "unknown command 'bla'"],
    ['list all', "too many arguments for 'list'. Expected 0 arguments but got 1."],
    ['info', "missing required argument 'DEVICE'"],
    ['watch', "missing required argument 'DEVICE'"],
    ['watch software --trace', "option '--trace <FILE>' argument missing"],
    ['demo --seconds 0', "option '--seconds <N>' argument '0' is invalid. It takes a number of seconds, at most 3600."],
    ['doctor a b', "too many arguments for 'doctor'. Expected 1 argument but got 2."],
    ['migrate --to tcp://a:1 --journal j', "missing required argument 'DEVICE'"],
    ['migrate a --journal j', "required option '--to <ADDRESS>' not specified"],
    ['migrate a --to tcp://a:1', "required option '--journal <FILE>' not specified"],
    ['migrate a --to tcp://a:1 --journal j --downtime -3', "option '--downtime <MS>' argument '-3' is invalid. It takes a number of ms."],
    ['migrate a --to tcp://a:1 --journal j --downtime many', "option '--downtime <MS>' argument 'many' is invalid. It takes a number of ms."],
    ['receive a --at tcp://a:1 --journal j --to tcp://a:1', "unknown option '--to'"],
    ['migrate a --to tcp://a:1 --journal j --tls-name x', 'TLS takes --tls-certificate, --tls-key and --tls-authority, all of them'],
    ['resolve --at tcp://a:1 --journal j --tls-fingerprint 12', "option '--tls-fingerprint <SHA256>' argument '12' is invalid. It takes 64 digits of hex."],
    ['receive a --at tcp://a:1 --journal j --tls-key /none', "option '--tls-key <FILE>' argument '/none' is invalid. It cannot be read: ENOENT: no such file or directory, open '/none'"],
    ['resolve --journal j', '--to or --at is needed'],
    ['resolve --journal j --to tcp://a:1 --at tcp://b:1', "option '--to <ADDRESS>' cannot be used with option '--at <ADDRESS>'"],
    ['migrate software --to nowhere --journal j', "option '--to <ADDRESS>' argument 'nowhere' is invalid. It takes tcp://HOST:PORT, unix:/PATH or file:/FOLDER."],
    ['receive software --at bogus --journal j', "option '--at <ADDRESS>' argument 'bogus' is invalid. It takes tcp://HOST:PORT, unix:/PATH or file:/FOLDER."],
    ['resolve --journal j --to tcp://a:70000', "option '--to <ADDRESS>' argument 'tcp://a:70000' is invalid. It takes tcp://HOST:PORT, unix:/PATH or file:/FOLDER."],
    ['serve software /tmp/x', "command-argument value '/tmp/x' is invalid for argument 'ADDRESS'. It takes unix:/PATH."],
    ['serve software', "missing required argument 'ADDRESS'"],
    ['conformance', "missing required argument 'DEVICE'"],
    ['conformance a b', "too many arguments for 'conformance'. Expected 1 argument but got 2."],
    ['conformance software --json --junit', "option '--json' cannot be used with option '--junit'"],
    ['conformance software --only REMAP DMA', "option '--only <RULE...>' argument 'DMA' is invalid. The groups are REGION, IRQ, REMAP, LOG, MIGRATION."],
    ['record software running on', "command-argument value 'on' is invalid for argument 'STATE'. A state is one of running, running-p2p, pre-copy, pre-copy-p2p, stop-copy, stop, resuming."],
    ['record software resuming stop-copy', 'resuming loads what was saved: name stop-copy before it'],
    ['record software --data-bytes 500001', "option '--data-bytes <N>' argument '500001' is invalid. It takes a number of bytes, 0 to 500000."],
    ['record software --for ever', "option '--for <MS>' argument 'ever' is invalid. It takes a number of ms."],
    ['replay', "missing required argument 'TRACE'"],
    ['render a.jsonl --svg --html', "option '--svg' cannot be used with option '--html'"],
  ])('%s: says what is wrong in a line', (line, message) => {
    const [command = ''] = line.split(' ');
    const help = message.startsWith('unknown command') ? 'npx vfio-rx --help' : `npx vfio-rx ${command} --help`;
    expect(said(...line.split(' '))).toEqual({ exit: 1, out: '', error: `error: ${message} (more: ${help})\n` });
  });

  it.each([
    ['lst', "unknown command 'lst' (Did you mean list?)"],
    ['list --jsn', "unknown option '--jsn' (Did you mean --json?)"],
  ])('%s: says what may have been meant, in the same line', (line, message) => {
    expect(said(...line.split(' '))).toEqual({ exit: 1, out: '', error: `error: ${message}\n` });
  });

  it.each(['info eth0', 'watch software eth0', 'serve eth0 unix:/x', 'conformance 3:0.0', 'record eth0'])('%s: says which names there are', (line) => {
    expect(() => said(...line.split(' '))).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', message: expect.stringMatching(/names no device: a PCI address/) as unknown }) as Error);
  });

  it.each([
    'list --json',
    'doctor',
    'doctor 0000:03:00.1 --json',
    'info unix:/x --json',
    'demo --seconds 0.5 --json',
    'watch software:nic?every=5 0000:03:00.1 --trace a.jsonl --json',
    'migrate software:a --to tcp://a:1 --journal j --downtime 300 --no-peer-to-peer --json',
    'receive software:a software:b --at unix:/x --journal j --exit',
    'resolve --journal j --to tcp://a:1',
    'resolve --journal j --at tcp://a:1 --json',
    'serve software unix:/x --json',
    'record software',
    'record 0000:03:00.1 --out a.jsonl --for 500 --test a.test.ts --json -- pre-copy running',
    'replay a.jsonl --json',
    'render a.jsonl b.jsonl --html -o a.html',
    'conformance software --destructive --patience 5 --junit',
    'record software --data-bytes 0 stop-copy resuming running',
    'conformance software --only REMAP IRQ-3',
  ])('%s: works', (line) => expect(said(...line.split(' '))).toMatchObject({ exit: 'works', error: '' }));
});
