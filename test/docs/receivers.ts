/** Two requests for the receivers that documents show: one of ours, and one with a changed body. */
import { signed as sign } from '../receiver/signed.ts'

const secret = 'your-endpoint-secret'
const body = '{"id":"evt_123","type":"message.delivered","data":{"price":1.0}}'

process.env.WEBHOOK_SECRET = secret

const timestamp = String(Math.floor(Date.now() / 1_000))
export const signed = { method: 'POST', ...sign({ id: 'evt_123', timestamp, body, key: secret }) }
export const forged = { ...signed, body: body.replace('1.0', '100') }
