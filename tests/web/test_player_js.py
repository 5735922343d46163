"""Parts of the player that need no page: its engine's turns, recordings, poses and character files."""

from __future__ import annotations

from pathlib import Path

from .javascript import run


def test_a_frame_without_a_character_is_refused_again_and_again(tmp_path: Path) -> None:
    script = """
      const { Player } = await import('./player.js');
      globalThis.document = { hidden: false, addEventListener() {} };
      globalThis.requestAnimationFrame = () => 0;
      const player = new Player({ fit() {}, take() {} }, () => new Float32Array(45));
      const said = [];
      for (let i = 0; i < 2; i++) await player.frame().catch((error) => said.push(error.message));
      const answer = () => said;
    """
    assert run(script, tmp_path) == ["no character is shown"] * 2


def test_a_server_that_is_gone_fails_the_next_frame(tmp_path: Path) -> None:
    script = """
      let socket;
      globalThis.WebSocket = class { constructor() { socket = this; } send() {} close() {} };
      globalThis.OffscreenCanvas = class { getContext() { return {}; } };
      globalThis.document = {
        baseURI: 'http://127.0.0.1/',
        querySelector: () => ({ getAttribute: () => '/native' }),
      };
      const { native } = await import('./engines/native.js');
      const making = native.create({ size: 8, address: 'http://127.0.0.1/characters/a' });
      socket.onmessage({ data: '{"runtime": "toy"}' });
      const engine = await making;
      socket.onclose();
      let said = 'nothing';
      await engine.render(new Float32Array(45), () => {}).catch((error) => (said = error.message));
      const answer = () => said;
    """
    assert run(script, tmp_path) == "the server has closed the connection: is it still running?"


def test_a_pose_is_a_list_or_names(tmp_path: Path) -> None:
    script = """
      const { parsePose } = await import('./state.js');
      const answer = (texts) => texts.map((text) => Array.from(parsePose(text)).map((value) => +value.toFixed(3)));
    """
    whole = [0.0] * 45
    whole[39] = 0.5
    listed, named = run(script, tmp_path, [str(whole), '{"head_x": 0.5}'])
    assert listed == named == whole


def test_names_in_a_character_file_reach_nothing_but_its_tensors(tmp_path: Path) -> None:
    script = """
      const { readCharacterFile } = await import('./character.js');
      const about = { format: 'thadistill.character', version: '1', architecture: '{}' };
      const tensor = { dtype: 'F32', shape: [1], data_offsets: [0, 4] };
      const header = new TextEncoder().encode(
        `{"__metadata__": ${JSON.stringify(about)}, "__proto__.polluted": ${JSON.stringify(tensor)}, ` +
        `"constructor.polluted": ${JSON.stringify(tensor)}}`
      );
      const bytes = new Uint8Array(8 + header.length + 4);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
      bytes.set(header, 8);
      let said = 'nothing';
      try { await readCharacterFile(bytes); } catch (error) { said = error.message; }
      const answer = () => [said, String({}.polluted), String(Object.polluted)];
    """
    said, *polluted = run(script, tmp_path)
    assert "picture" in said
    assert polluted == ["undefined"] * 2
