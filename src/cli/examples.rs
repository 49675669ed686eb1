//! What `--help` ends with: commands that can be typed as they stand, in a checkout, after `pullback demo`. A test does so.

/// Of `pullback demo`.
pub const DEMO: &str = "\
Examples:
  pullback demo
  pullback demo -o runs/small --set data.limit=500 --set train.epochs=2";

/// Of `pullback train`.
pub const TRAIN: &str = "\
Examples:
  pullback train -c configs/demo.yaml -o runs/mixup
  pullback train -c configs/demo.yaml -o runs/beta4 \\
    --set train.beta=4 --set train.mixup.strength=0";

/// Of `pullback score`.
pub const SCORE: &str = "\
Examples:
  pullback score -m runs/demo/plain -d strokes -o scores.h5 --limit 1000
  pullback score -m runs/demo/plain -d strokes -o fisher.h5 \\
    --metric fisher --top 5 --sample 200
  pullback score -m runs/demo/plain -d strokes -o s1.h5 --limit 1000 --shard 1/2";

/// Of `pullback attack`.
pub const ATTACK: &str = "\
Examples:
  pullback attack -m runs/demo/plain -d strokes -o attack.h5 --limit 100
  pullback attack -m runs/demo/plain -d strokes -o suite.h5 \\
    --attack suite --eps 0.5,1,2 --limit 20
  pullback attack -m runs/demo/plain -d strokes -o linf.h5 \\
    --attack pgd --norm linf --eps 0.1 --limit 100 --save-images";

/// Of `pullback sweep`.
pub const SWEEP: &str = "\
Examples:
  pullback sweep -c configs/paper-small.yaml -o runs/paper-small
  pullback sweep -c configs/paper-small.yaml -o runs/quick \\
    --set data.source=strokes --set train.epochs=2 --limit 200";

/// Of `pullback report`.
pub const REPORT: &str = "\
Examples:
  pullback report runs/demo -o report.html
  pullback report scores.h5 attack.h5 -o plain.html";

/// Of `pullback bench`.
pub const BENCH: &str = "\
Examples:
  pullback bench
  pullback bench -m runs/demo/plain -d strokes --limit 64 --json";

/// Of `pullback merge`.
pub const MERGE: &str = "\
Examples:
  pullback merge s1.h5 s2.h5 -o scores.h5
  pullback merge scores.shard-*.h5 -o scores.h5";

/// Of `pullback inspect`.
pub const INSPECT: &str = "\
Examples:
  pullback inspect runs/demo/plain
  pullback inspect runs/demo/plain/scores.h5
  pullback inspect strokes";

/// Of `pullback leaderboard`.
pub const LEADERBOARD: &str = "\
Examples:
  pullback leaderboard suite.h5 -o board.html
  pullback leaderboard suite.h5 board.json -o board.md";

/// Of `pullback completions`.
pub const COMPLETIONS: &str = "\
Examples:
  pullback completions bash > pullback.bash
  pullback completions zsh > \"${fpath[1]}/_pullback\"
  pullback completions fish > ~/.config/fish/completions/pullback.fish";

/// Of `pullback man`.
pub const MAN: &str = "\
Examples:
  pullback man -o ~/.local/share/man/man1
  pullback man -o man && man -l man/pullback-score.1";
