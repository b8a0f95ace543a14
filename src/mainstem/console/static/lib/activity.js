/** Whether the person at the browser has done something just now. */

const ACTIVE_MS = 60_000;
const SIGNS = ["pointerdown", "keydown", "wheel"];

let lastSign = Date.now();

function noteSign() {
  lastSign = Date.now();
}

for (const sign of SIGNS) addEventListener(sign, noteSign, { passive: true, capture: true });

export const isActive = () => Date.now() - lastSign < ACTIVE_MS;
