// The events that every contender sends: 500 bytes as JSON, each for one endpoint.

const BYTES = 500

/**
 * Event number `index`. It belongs to one of `endpointCount` endpoints, in turn, and carries
 * the endpoint's channel in its metadata: that is what an engine with filters matches on.
 */
export function makeEvent(index, endpointCount, text = FILLER) {
  const number = String(index).padStart(8, '0')
  return {
    id: `evt_bench_${number}`,
    type: 'message.sent',
    timestamp: new Date(),
    data: { messageId: `msg_${number}`, to: '010-0000-0000', status: 'sent', text },
    metadata: { providerId: 'iwinv', channelId: channelOf(endpointOf(index, endpointCount)) },
    version: '1.0',
  }
}

export const endpointOf = (index, endpointCount) => index % endpointCount

/** Fixed width, so that every event has the same length. */
export const channelOf = (endpoint) => `channel-${String(endpoint).padStart(5, '0')}`

const FILLER = 'x'.repeat(BYTES - JSON.stringify(makeEvent(0, 1, '')).length)
