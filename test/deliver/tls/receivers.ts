/** Receivers that speak TLS, on 127.0.0.1. */
import type { AddressInfo, Socket } from 'node:net'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'

export interface TlsReceiver extends AsyncDisposable {
  readonly port: number
  /** TLS connections that were completed, and what each asked for. */
  readonly sockets: TLSSocket[]
  /** Connections at all, and those that were resumed. */
  readonly connections: Socket[]
  readonly requests: { servername: string; client: string; resumed: boolean; text: string }[]
}

export async function receiveTls(options: TlsOptions): Promise<TlsReceiver> {
  const sockets: TLSSocket[] = []
  const connections: Socket[] = []
  const requests: TlsReceiver['requests'] = []
  const server = createServer(options, (socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      const text = chunk.toString('latin1')
      if (!text.startsWith('POST')) return
      requests.push({
        servername: (socket as { servername?: string | false }).servername || '',
        client: socket.getPeerCertificate().subject?.CN?.toString() ?? '',
        resumed: socket.isSessionReused(),
        text,
      })
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
  })
  server.on('connection', (socket) => connections.push(socket))
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    connections,
    requests,
    async [Symbol.asyncDispose]() {
      for (const socket of connections) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
