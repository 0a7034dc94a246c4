import { render } from 'preact';
import { begin } from './app/session';
import { installHook } from './app/stage';
import { unlock } from './lib/sound';
import './style/base.css';
import './style/bits.css';
import './style/rail.css';
import './style/stage.css';
import './style/dialogs.css';
import './style/inspector.css';
import { App } from './ui/App';

const place = document.getElementById('app');
if (place !== null) {
  installHook();
  // Sound may only be made once the person has done something.
  for (const event of ['pointerdown', 'keydown'] as const) addEventListener(event, unlock, { once: true });
  render(<App />, place);
  void begin();
}
