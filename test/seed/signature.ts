// Seed README: 보안, HMAC 서명 검증 and 타임스탬프 검증. Added: the function around each, its
// parameter types, and lower-case header names, the only ones Node has.
import { SecurityManager } from '@k-msg/webhook-system'
import type { Request, Response } from 'express'

// 서명 생성 (자동)
const securityManager = new SecurityManager({
  algorithm: 'sha256',
  header: 'X-Webhook-Signature',
  prefix: 'sha256=',
})

export function checkSignature(req: Request, res: Response) {
  // 수신측에서 서명 검증
  const payload = req.body
  const signature = req.headers['x-webhook-signature']
  const secret = process.env.WEBHOOK_SECRET

  const isValid = securityManager.verifySignature(payload, signature, secret)
  if (!isValid) {
    return res.status(401).json({ error: 'Invalid signature' })
  }
}

export function checkTimestamp(req: Request, res: Response) {
  const timestamp = req.headers['x-webhook-timestamp']
  const isValidTime = securityManager.verifyTimestamp(timestamp, 300) // 5분 허용
  if (!isValidTime) {
    return res.status(401).json({ error: 'Request too old' })
  }
}
