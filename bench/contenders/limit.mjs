// a) The limit: the same request in a bare loop. Nothing is stored, nothing is retried.

import { createSender } from './request.mjs'

export async function open({ urls, inFlight }) {
  const sender = createSender(urls, inFlight)
  return { send: sender.send, close: sender.close }
}
