// Seed README: Express/Hono와 통합, Hono 통합. Added: the security manager of the section before.
import { SecurityManager } from '@k-msg/webhook-system'
import { Hono } from 'hono'

const securityManager = new SecurityManager()

const app = new Hono()

app.post('/webhooks', async (c) => {
  const signature = c.req.header('X-Webhook-Signature')
  const payload = await c.req.text()

  if (!securityManager.verifySignature(payload, signature, process.env.WEBHOOK_SECRET)) {
    return c.json({ error: 'Invalid signature' }, 401)
  }

  const event = JSON.parse(payload)

  // 이벤트 처리
  console.log(`Processing ${event.type}:`, event.data)

  return c.json({ success: true })
})

export { app }
