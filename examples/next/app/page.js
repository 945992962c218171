export default function Page() {
  return <p>POST webhooks to /webhooks</p>
}
