import { readFileSync } from 'node:fs';
import { InvalidArgumentError, type Command } from 'commander';
import type { TlsOptions } from '../transport/tls.js';

/** What `withTls` makes of `--tls-*`. */
export interface TlsFlags {
  readonly tlsCertificate?: Buffer;
  readonly tlsKey?: Buffer;
  readonly tlsAuthority?: Buffer;
  readonly tlsFingerprint?: string;
  readonly tlsName?: string;
}

/** Gives a command the options of a connection over TLS. */
export function withTls(command: Command): Command {
  return command
    .option('--tls-certificate <FILE>', "over TLS: this side's certificate (PEM), with", contents)
    .option('--tls-key <FILE>', 'its key, and', contents)
    .option('--tls-authority <FILE>', 'whom to believe', contents)
    .option('--tls-fingerprint <SHA256>', "of the other side's certificate: believe no other", fingerprint)
    .option('--tls-name <NAME>', 'in the certificate of the side that listens, where it is not the host of its address');
}

/** Nothing where TLS was not asked for. Throws CommanderError where half of it was. */
export function tlsOf(command: Command, { tlsCertificate, tlsKey, tlsAuthority, tlsFingerprint, tlsName }: TlsFlags): { readonly tls?: TlsOptions } {
  if ([tlsCertificate, tlsKey, tlsAuthority, tlsFingerprint, tlsName].every((flag) => flag === undefined)) return {};
  if (tlsCertificate === undefined || tlsKey === undefined || tlsAuthority === undefined) return command.error('error: TLS takes --tls-certificate, --tls-key and --tls-authority, all of them');
  return {
    tls: {
      certificate: tlsCertificate, key: tlsKey, authorities: tlsAuthority,
      ...(tlsFingerprint === undefined ? {} : { fingerprint: tlsFingerprint }), ...(tlsName === undefined ? {} : { serverName: tlsName }),
    },
  };
}

function contents(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${(error as Error).message}`);
  }
}

function fingerprint(text: string): string {
  if (/^(?:[0-9a-f]{2}:?){32}$/i.test(text)) return text;
  throw new InvalidArgumentError('It takes 64 digits of hex.');
}
