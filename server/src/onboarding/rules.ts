/** The steps of KF-4 after the start, in order; the one named is the one that is due. */
export type OnboardingStep =
  | 'create_customer'
  | 'setup_payment'
  | 'select_plan'
  | 'create_subscription'
  | 'complete'
  | 'completed'

const ORDER: readonly OnboardingStep[] = [
  'create_customer',
  'setup_payment',
  'select_plan',
  'create_subscription',
  'complete',
  'completed',
]

/**
 * Whether a step may be taken when another (or the same) is due. Pure. The step taken last may be taken again until the next one
 * is: its answer may have been lost. It then answers what is there, or, for payment and plan, takes the new choice.
 */
export function mayTake(step: OnboardingStep, due: OnboardingStep): boolean {
  return step === due || nextStep(step) === due
}

/** The step that is due after one. */
export function nextStep(step: OnboardingStep): OnboardingStep {
  return ORDER[ORDER.indexOf(step) + 1] ?? 'completed'
}
