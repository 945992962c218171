// Free ports on loopback, as the system hands them out.

import { once } from 'node:events'
import { createServer } from 'node:net'

/** Held together, then released together: the numbers are distinct. */
export async function freePorts(count) {
  const servers = []
  for (let i = 0; i < count; i++) {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    servers.push(server)
  }
  const ports = servers.map((server) => server.address().port)
  for (const server of servers) {
    server.close()
    await once(server, 'close')
  }
  return ports
}
