import { createHash, generateKeyPairSync, sign, X509Certificate, type KeyObject } from 'node:crypto';

/** Certificates for tests: X.509 v3 in DER by hand, as far as TLS asks for it, so that nothing has to be installed. */

export interface Identity {
  readonly certificate: string;
  readonly key: string;
  readonly fingerprint: string;
}

export interface Subject {
  readonly name: string;
  /** Who signs it; itself where nobody is named. */
  readonly by?: Authority;
  readonly expired?: boolean;
  /** IP address 127.0.0.1 as well. */
  readonly loopback?: boolean;
}

export interface Authority extends Identity {
  readonly name: string;
  readonly privateKey: KeyObject;
}

const oid = { commonName: [0x55, 4, 3], basicConstraints: [0x55, 0x1d, 19], subjectAltName: [0x55, 0x1d, 17], ecdsaSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] };

function der(tag: number, ...parts: readonly (Uint8Array | readonly number[])[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array)));
  const { length } = body;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const named = (name: string): Buffer => sequence(der(0x31, sequence(der(6, oid.commonName), der(12, Buffer.from(name)))));
const time = (at: Date): Buffer => der(0x18, Buffer.from(at.toISOString().replace(/[-:T]|\.\d+/g, '')));
const extension = (id: readonly number[], value: Buffer): Buffer => sequence(der(6, id), der(4, value));

let serial = 0;

/** An authority, or one that is signed by an authority. */
export function identity({ name, by, expired = false, loopback = false }: Subject): Authority {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(der(6, oid.ecdsaSha256));
  const dayMs = 86_400_000;
  const until = Date.now() + (expired ? -1 : 1) * dayMs;
  const names = sequence(der(0x82, Buffer.from(name)), ...(loopback ? [der(0x87, [127, 0, 0, 1])] : []));
  const toBeSigned = sequence(
    der(0xa0, der(2, [2])), der(2, [(serial += 1)]), algorithm, named(by?.name ?? name), sequence(time(new Date(until - 10 * dayMs)), time(new Date(until))), named(name),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(extension(oid.basicConstraints, by === undefined ? sequence(der(1, [0xff])) : sequence()), extension(oid.subjectAltName, names))),
  );
  const signature = sign('sha256', toBeSigned, by?.privateKey ?? privateKey);
  const bytes = sequence(toBeSigned, algorithm, der(3, [0], signature));
  const certificate = new X509Certificate(bytes).toString();
  return { name, privateKey, certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), fingerprint: createHash('sha256').update(bytes).digest('hex') };
}
