#!/usr/bin/env bash
# Refine a controller that misses: record ten demonstrations, train DiffTORI on top of the controller, and test both on
# the same initial states. DEMO_STEPS and DEMO_ROLLOUTS change the number of updates and of initial states.
set -euo pipefail
export MUJOCO_GL="${MUJOCO_GL:-osmesa}" PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
steps=${DEMO_STEPS:-600}
run=runs/demo/$(date +%Y%m%d-%H%M%S)
data=demos/demo/reach-v3.hdf5
words=(--config il_metaworld_state.yaml --data.task reach-v3 --data.path "$data" --trainer.logger.save_dir "$run"
    --trainer.logger.version "" --rollout.n_videos 0 --model.base_policy examples.miscalibrated_reach.MiscalibratedReach)

[ -e "$data" ] || difftori demos metaworld --task reach-v3 --episodes 10 --cloud null --output "$data"
difftori fit "${words[@]}" --trainer.logger.name difftori --trainer.max_steps "$steps" \
    --rollout.every_n_train_steps "$((steps / 3))" --rollout.n_episodes 20
difftori test "${words[@]}" --trainer.logger.name test --ckpt_path "$run/difftori/checkpoints/best.ckpt" \
    --rollout.n_episodes "${DEMO_ROLLOUTS:-100}"
python setup/demo_report.py "$run"
