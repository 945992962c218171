/**
 * Runs in a network with a neighbour that swallows every packet: 93.184.0.2 and 2600:1::2 are never
 * heard of, 93.184.0.1 and 2600:1::1 are this machine. On the built package. Prints JSON.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { WebhookDispatcher } from '../../dist/index.js'

const event = { id: 'evt_1', type: 'message.sent', timestamp: new Date(), data: {} }
const live = createServer((request, response) => {
  request.resume()
  response.end('ok')
})
live.listen(8080, '::')
await once(live, 'listening')

async function send(...addresses) {
  const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, {
    lookup: (_, callback) => queueMicrotask(() => callback(null, found)),
  })
  const { outcome, error, responseTime } = await dispatcher.dispatch(event, {
    id: 'dead-ways',
    url: 'http://hooks.example.net:8080/',
    events: ['*'],
    secret: 'a-secret-of-the-dead-ways',
  })
  await dispatcher.close()
  return { outcome, error, ms: Math.round(responseTime) }
}

const [swallowed, deadSix, deadFour, neither] = await Promise.all([
  send('93.184.0.2'),
  send('2600:1::2', '93.184.0.1'),
  send('93.184.0.2', '2600:1::1'),
  send('2600:1::2', '93.184.0.2'),
])
process.stdout.write(JSON.stringify({ swallowed, deadSix, deadFour, neither }))
process.exit(0)
