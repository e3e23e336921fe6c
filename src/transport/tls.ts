import { X509Certificate } from 'node:crypto';
import { connect, createServer, type Server, type TLSSocket } from 'node:tls';
import type { NetConnectOpts } from 'node:net';
import { VfioError } from '../errors.js';
import { linkError } from './transport.js';

/** What one side of a TLS connection shows, and whom it believes; all in PEM. Both sides have to show something. */
export interface TlsOptions {
  /** This side's certificate, and those between it and the authority. */
  readonly certificate: string | Buffer;
  /** Its key. */
  readonly key: string | Buffer;
  /** The authorities that the other side's certificate may come from; no other is believed, the system's neither. */
  readonly authorities: string | Buffer | readonly (string | Buffer)[];
  /** sha256 of the other side's certificate, in hex: no other is believed. At the side that connects it stands in place of the name. */
  readonly fingerprint?: string;
  /** The name in the certificate of the side that listens. Default: the host of the address; a UNIX socket has none. */
  readonly serverName?: string;
}

/** How long a handshake may take, ms. */
const handshakeMs = 10_000;

/** Connections at once at the side that listens: more strangers than these are turned away. */
const mostConnections = 64;

const minVersion = 'TLSv1.3';

/** Throws VFIO_E_CERTIFICATE, VFIO_E_ADDRESS. */
export function tlsSocket(to: NetConnectOpts, address: string, tls: TlsOptions): TLSSocket {
  const { serverName, fingerprint } = tls;
  if ('path' in to && serverName === undefined && fingerprint === undefined) {
    throw new VfioError('VFIO_E_ADDRESS', `nobody has a certificate for ${address}: say the name or the fingerprint of the other side's`, { operation: 'TLS', device: address });
  }
  const pinned = fingerprint === undefined ? {} : { checkServerIdentity: (_host: string, { fingerprint256 }: { readonly fingerprint256: string }) => otherThan(fingerprint, fingerprint256) };
  const name = serverName === undefined ? {} : { servername: serverName };
  return withOwn(address, () => connect({ ...to, ...material(tls), ...name, ...pinned, rejectUnauthorized: true, minVersion }));
}

/**
 * Gives out connections whose other side was verified. A stranger is turned away, and told of; it does not end the listening.
 * Throws VFIO_E_CERTIFICATE.
 */
export function tlsServer(address: string, tls: TlsOptions, verified: (socket: TLSSocket) => void, refused: (error: VfioError) => void): Server {
  const { fingerprint } = tls;
  const server = withOwn(address, () => createServer({ ...material(tls), requestCert: true, rejectUnauthorized: true, minVersion, handshakeTimeout: handshakeMs, noDelay: true }));
  server.maxConnections = mostConnections;
  server.on('tlsClientError', (error, { authorizationError }) => {
    // Where its certificate is the reason, the error is only that the connection was ended.
    const reason = authorizationError as unknown;
    refused(tlsError(address, 'no connection', typeof reason === 'string' ? coded(reason, error.message) : error));
  });
  server.on('secureConnection', (socket) => {
    const other = fingerprint === undefined ? undefined : otherThan(fingerprint, socket.getPeerCertificate().fingerprint256);
    if (other === undefined) {
      verified(socket);
      return;
    }
    socket.on('error', () => undefined).destroy();
    refused(tlsError(address, 'no connection', other));
  });
  return server;
}

/** What failed on the way to a verified connection, or on it: VFIO_E_UNTRUSTED where it is about a certificate, on either side. */
export function tlsError(address: string, what: string, error: Error): VfioError {
  const code = 'code' in error ? String(error.code) : '';
  if (!aboutTrust.test(code)) return linkError(address, `${what}: ${error.message}`, error);
  const whose = /ALERT/.test(code) ? 'the other side does not believe this one' : 'the other side could not be verified';
  return new VfioError('VFIO_E_UNTRUSTED', `${whose}: ${error.message} (${code})`, { operation: 'TLS', device: address, cause: error });
}

/** OpenSSL's words for a certificate that is not as it should be, and for alerts that say so. */
const aboutTrust = /CERT|UNABLE_TO|SIGNATURE|_CA$|ALERT_(?:BAD|UNKNOWN|UNSUPPORTED|ACCESS|DECRYPT)/;

/** Without an authority Node would believe those of the system. */
function material({ certificate, key, authorities }: TlsOptions) {
  const ca = typeof authorities === 'string' || Buffer.isBuffer(authorities) ? [authorities] : [...authorities];
  if (ca.map((one) => new X509Certificate(one)).length === 0) throw new Error('there is no authority');
  return { cert: certificate, key, ca };
}

/** An error where the certificate is not the one that was meant. */
function otherThan(fingerprint: string, found: string): Error | undefined {
  const plain = (text: string): string => text.replaceAll(':', '').toLowerCase();
  if (plain(fingerprint) === plain(found)) return undefined;
  return coded('CERT_FINGERPRINT', `its certificate has the fingerprint ${found}`);
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function withOwn<T>(address: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    throw new VfioError('VFIO_E_CERTIFICATE', `certificate, key or authorities of this side are not PEM, or do not fit together: ${String(cause)}`, { operation: 'TLS', device: address, cause });
  }
}
