// The receiver of receiver.mjs on plain `node:http`.
import { createServer } from 'node:http'
import { nodeHandler } from '@k-msg/webhook/receiver/node'
import { ask, receiver } from './receiver.mjs'

const handle = nodeHandler(receiver)

createServer(async (request, response) => {
  const answer = await ask(request.url)
  if (answer === null) await handle(request, response)
  else response.setHeader('content-type', 'application/json').end(JSON.stringify(answer))
}).listen(Number(process.env.PORT), '127.0.0.1')
