#!/usr/bin/env bash
# Record scripted demonstrations of Square, train a base policy and DiffTORI on top, and evaluate both in the simulator.
# DEMO_EPISODES, DEMO_BASE_STEPS, DEMO_STEPS and DEMO_ROLLOUTS set the numbers of episodes, steps and rollouts.
set -euo pipefail
run=runs/demo/$(date +%Y%m%d-%H%M%S)
difftori demos square --episodes "${DEMO_EPISODES:-60}" --output demos/square.hdf5
difftori fit --config bc_rnn_square_low_dim.yaml --trainer.max_steps "${DEMO_BASE_STEPS:-2000}" \
    --trainer.logger.save_dir "$run" --trainer.logger.name base --trainer.logger.version ""
difftori fit --config il_square_low_dim.yaml --trainer.max_steps "${DEMO_STEPS:-1000}" \
    --model.base_policy.checkpoint "$run/base/checkpoints/last.ckpt" \
    --trainer.logger.save_dir "$run" --trainer.logger.name difftori --trainer.logger.version ""
difftori test --config il_square_low_dim.yaml --ckpt_path "$run/difftori/checkpoints/last.ckpt" \
    --rollout.n_episodes "${DEMO_ROLLOUTS:-24}" \
    --trainer.logger.save_dir "$run" --trainer.logger.name test --trainer.logger.version ""
echo
echo "videos:      $run/test/videos/"
echo "TensorBoard: .venv/bin/tensorboard --logdir $run"
