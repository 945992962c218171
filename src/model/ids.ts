/**
 * The keys and ids the engine makes itself.
 *
 * A delivery's id is its own uniqueness: `dlv_<event key>_<endpoint key>`, plus `_r2` for a later
 * round. One index then finds a delivery, finds all deliveries of an event, keeps (event, endpoint)
 * unique, and pages through time, because event keys grow with time.
 */

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

/** Bytes of randomness; handed in so that tests can repeat a run. */
export type RandomBytes = (size: number) => Uint8Array

/** 8 characters, 40 random bits: tells apart the endpoints of one event. */
export function newEndpointKey(randomBytes: RandomBytes): string {
  return base32(randomBytes(5))
}

/**
 * Makes 24-character keys: 48 bits of milliseconds, then 72 bits that start random and count up
 * within a millisecond. Keys of one maker never repeat and never go backwards, even if the clock does.
 */
export function createKeyMaker(nowMs: () => number, randomBytes: RandomBytes): () => string {
  let lastMs = -1
  let timePart = ''
  let randomPart = ''
  let counter = 0
  return () => {
    const ms = Math.floor(nowMs())
    if (ms > lastMs) {
      lastMs = ms
      timePart = base32Number(ms, 10)
      randomPart = base32(randomBytes(5))
      // Room to count up: 30 bits of counter, of which 20 start random.
      const seed = randomBytes(3)
      counter = (((seed[0] ?? 0) & 15) << 16) | ((seed[1] ?? 0) << 8) | (seed[2] ?? 0)
    } else {
      counter += 1
    }
    return timePart + randomPart + base32Number(counter, 6)
  }
}

/** No key made at or after this moment is below it: a moment as a bound of key ranges. */
export function eventKeyFloor(ms: number): string {
  return base32Number(Math.min(Math.max(0, Math.floor(ms)), 32 ** 10 - 1), 10)
}

export function deliveryId(eventKey: string, endpointKey: string, round: number): string {
  const id = `dlv_${eventKey}_${endpointKey}`
  return round === 1 ? id : `${id}_r${round}`
}

/** The smallest text above every id of this event: `id >= prefix and id < end` finds them all. */
export function deliveryIdRange(eventKey: string): { from: string; to: string } {
  // '`' is the character after '_'.
  return { from: `dlv_${eventKey}_`, to: `dlv_${eventKey}\u0060` }
}

export function parseDeliveryId(
  id: string,
): { eventKey: string; endpointKey: string; round: number } | null {
  const match = /^dlv_([0-9a-z]{24})_([0-9a-z]{8})(?:_r([1-9][0-9]{0,6}))?$/.exec(id)
  if (!match?.[1] || !match[2]) return null
  return { eventKey: match[1], endpointKey: match[2], round: match[3] ? Number(match[3]) : 1 }
}

export function batchId(key: string): string {
  return `bat_${key}`
}

function base32Number(value: number, length: number): string {
  let text = ''
  let rest = value
  for (let i = 0; i < length; i += 1) {
    text = alphabet.charAt(rest % 32) + text
    rest = Math.floor(rest / 32)
  }
  return text
}

function base32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += alphabet.charAt((held >> bits) & 31)
    }
    held &= (1 << bits) - 1
  }
  return text
}
