// Seed README: Express/Hono와 통합, Express 미들웨어. Added: the security manager of the section
// before, parameter types, `express.json()`, and what the comment leaves to the reader.
import { SecurityManager } from '@k-msg/webhook-system'
import express, { type NextFunction, type Request, type Response } from 'express'

const securityManager = new SecurityManager()

const app = express()
app.use(express.json())

// 웹훅 검증 미들웨어
const verifyWebhook = (req: Request, res: Response, next: NextFunction) => {
  const signature = req.headers['x-webhook-signature']
  const payload = JSON.stringify(req.body)

  if (!securityManager.verifySignature(payload, signature, process.env.WEBHOOK_SECRET)) {
    return res.status(401).json({ error: 'Invalid signature' })
  }

  next()
}

app.post('/webhooks', verifyWebhook, (req, res) => {
  const event = req.body
  console.log(`Received ${event.type} event:`, event.data)

  // 이벤트 처리 로직

  res.json({ success: true })
})

export { app }
