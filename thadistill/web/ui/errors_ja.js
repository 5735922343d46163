// Errors in Japanese: the lines that modules throw in English, which scripts see, and what the page shows instead.

/** {name} stands for a value; {why} for a line that is translated in turn. */
export const errors = /** @type {const} */ ({
  // characters
  '{came}: expected a character file (NAME{suffix}), or all of {names}':
    '{came}：キャラクターファイル（名前{suffix}）、または {names} のすべてが必要です',
  '{path} cannot be reached: is the server still running?': '{path} に接続できません。サーバーが動いているか確認してください',
  '{path} cannot be fetched ({status})': '{path} を取得できません（{status}）',
  '{path} is too large': '{path} が大きすぎます',
  '{name} has {size} MB; expected a few': '{name} は {size} MB あります。数 MB のファイルが必要です',
  '{what} is damaged, or not JSON': '{what} は壊れているか、JSON ではありません',
  'the character has weights that are not finite': 'キャラクターの重みに有限でない値があります',
  'the character has a tensor of shape {shape}': 'キャラクターのテンソルの形状 {shape} は正しくありません',
  'the character file is cut short': 'キャラクターファイルが途中で切れています',
  'the character file is cut short, or not a character file':
    'キャラクターファイルが途中で切れているか、キャラクターファイルではありません',
  'this is not a character file: export one with format=web':
    'キャラクターファイルではありません。format=web で書き出してください',
  'the character file is of version {version}; expected {known}':
    'キャラクターファイルのバージョンは {version} です。{known} が必要です',
  'the character file is cut short, or damaged': 'キャラクターファイルが途中で切れているか、壊れています',
  'the character file lacks its picture': 'キャラクターファイルに画像がありません',
  "the character's levels are not named": 'キャラクターファイルに解像度の情報がありません',
  "the character's frame is not {size}": 'キャラクターのフレームが {size} ではありません',
  "the character's omega is {value}; expected a number above 0":
    'キャラクターの omega が {value} です。0 より大きい数が必要です',
  '{what} is not a TF.js layers model': '{what} は TF.js のレイヤーモデルではありません',
  '{what} holds quantised weights': '{what} の重みが量子化されています',
  'the weights of {what} are cut short': '{what} の重みが途中で切れています',
  'the weights of {what} have {count} bytes too many': '{what} の重みが {count} バイト余っています',
  "the character's picture is {size}; expected {wanted}": 'キャラクターの画像が {size} です。{wanted} が必要です',
  'the character has no layer {name}': 'キャラクターにレイヤー {name} がありません',
  "the character's layer {name} has shapes {a} and {b}": 'キャラクターのレイヤー {name} の形状 {a}、{b} は正しくありません',
  'a first layer has {inputs} inputs; expected {wanted}': '最初のレイヤーの入力数が {inputs} です。{wanted} が必要です',
  'a layer has {inputs} inputs; expected {wanted}': 'レイヤーの入力数が {inputs} です。{wanted} が必要です',
  'the character has no layers {prefix}': 'キャラクターにレイヤー {prefix} がありません',
  '{name} is {a} -> {b}; expected {c} -> {d}': '{name} が {a} -> {b} です。{c} -> {d} が必要です',
  'levels of {sizes} pixels; expected doubling': '解像度 {sizes} は順に 2 倍である必要があります',
  // pictures
  'the picture is not a PNG': '画像が PNG ではありません',
  'the picture is cut short': '画像が途中で切れています',
  'the picture is not an 8-bit PNG without interlacing': '画像が、インターレースなしの 8 ビット PNG ではありません',
  'the picture is {width}x{height}': '画像の大きさ {width}x{height} は使えません',
  'the picture is damaged': '画像が壊れています',
  // engines
  'this browser has no WebAssembly': 'このブラウザーには WebAssembly がありません',
  'this browser is too old': 'このブラウザーは古すぎます',
  "this browser's WebAssembly has no SIMD": 'このブラウザーの WebAssembly は SIMD に対応していません',
  "the page does not come from 'thadistill serve', whose runtime it needs":
    'thadistill serve のページではないため、その Python ランタイムを使えません',
  'the server does not have this character': 'サーバーにこのキャラクターがありません',
  'the server has closed the connection: is it still running?':
    'サーバーが接続を閉じました。動いているか確認してください',
  'WebGPU needs https, or an address on this machine': 'WebGPU には https か、この端末のアドレスが必要です',
  'this browser has no WebGPU': 'このブラウザーには WebGPU がありません',
  'the browser offers no WebGPU adapter: its GPU is missing, blocked or switched off':
    'WebGPU アダプターがありません。GPU がないか、ブロックされているか、無効になっています',
  'WebGPU does not start ({reason})': 'WebGPU を開始できません（{reason}）',
  'the WebGPU adapter is a software one ({name}), slower than WebAssembly':
    'WebGPU アダプターがソフトウェア（{name}）で、WebAssembly より遅くなります',
  'the GPU cannot take the character: {reason}': 'GPU でこのキャラクターを扱えません：{reason}',
  "the character's {name} would take {needed} MB of the {there} that a GPU buffer may have":
    'キャラクターの {name} に {needed} MB が必要ですが、GPU のバッファーは {there} MB までです',
  'the GPU was lost ({reason})': 'GPU が失われました（{reason}）',
  'the GPU refuses to draw: {reason}': 'GPU が描画を拒否しました：{reason}',
  'the engine was closed': 'エンジンは終了しています',
  'a WebAssembly worker has failed: {reason}': 'WebAssembly のワーカーが失敗しました：{reason}',
  "the character's weights are too large for this engine's 16-bit products":
    'キャラクターの重みが大きすぎて、このエンジンの 16 ビット演算では扱えません',
  'the character has a level of one layer; expected two or more':
    'キャラクターにレイヤーが 1 つだけの段があります。2 つ以上が必要です',
  'the character is too large for this engine': 'キャラクターが大きすぎて、このエンジンでは扱えません',
  'the character has a level of {size} pixels': 'キャラクターの解像度 {size} は扱えません',
  'the character lacks the layers that paint it': 'キャラクターに描画用のレイヤーがありません',
  'a level of {size} pixels; the WebGPU engine expects a multiple of 4':
    '解像度が {size} です。WebGPU エンジンには 4 の倍数が必要です',
  "no engine is called '{name}'; expected one of {names}": '「{name}」というエンジンはありません。{names} のいずれかです',
  'nothing here can draw the character ({why})': 'ここではキャラクターを描画できません（{why}）',
  'chosen by hand': '手動で選択',
  'the fastest that works here': 'ここで動作する最速のエンジン',
  'no character is shown': 'キャラクターが表示されていません',
  'this browser has no canvas to draw on': 'このブラウザーには描画用のキャンバスがありません',
  // recording
  'this browser cannot record': 'このブラウザーでは録画できません',
  'nothing is being recorded': '録画していません',
  // poses and addresses
  'the pose is not JSON; expected names and values, such as {"head_y": 0.5}':
    'ポーズが JSON ではありません。{"head_y": 0.5} のような名前と値が必要です',
  'expected an object of pose parameters, such as {"head_y": 0.5}':
    '{"head_y": 0.5} のようなポーズパラメーターが必要です',
  "no pose parameter is called '{name}'": '「{name}」というポーズパラメーターはありません',
  'a pose of {count} values; expected {wanted}': 'ポーズの値が {count} 個です。{wanted} 個が必要です',
  '{name} is {value}; expected a number from {low} to 1': '{name} が {value} です。{low} から 1 までの数が必要です',
  'background={given}: expected transparent, or a colour as RRGGBB':
    'background={given}：transparent か、RRGGBB の色が必要です',
  'zoom, x and y in the address are not numbers': 'アドレスの zoom、x、y が数ではありません',
});
