import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { Observable } from 'rxjs';

/** Serves metrics on this machine alone. Emits the address, fails where there is no such port, and closes on unsubscribe. */
export function serveMetrics(registry: Registry, port: number): Observable<string> {
  return new Observable((subscriber) => {
    const server = createServer((request, response) => {
      if (request.url !== '/metrics') {
        response.writeHead(404).end('there is /metrics\n');
        return;
      }
      void registry.metrics().then((text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text));
    });
    server.once('error', (error) => subscriber.error(error));
    server.listen(port, '127.0.0.1', () => subscriber.next(`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`));
    return () => {
      server.close();
      server.closeAllConnections();
    };
  });
}
