#!/usr/bin/env bash
# Record ten demonstrations of a Meta-World task, train behaviour cloning and DiffTORI on it, test both on 200 initial
# states, and report the difference. DEMO_TASK, DEMO_BASE_STEPS, DEMO_STEPS and DEMO_ROLLOUTS change the sizes.
set -euo pipefail
export MUJOCO_GL="${MUJOCO_GL:-osmesa}"
task=${DEMO_TASK:-push-v3}
run=runs/demo/$(date +%Y%m%d-%H%M%S)
data=demos/demo/$task.hdf5
words=(--data.task "$task" --data.path "$data" --trainer.logger.save_dir "$run" --trainer.logger.version "" --rollout.n_videos 0)

[ -e "$data" ] || difftori demos metaworld --task "$task" --episodes 10 --cloud null --output "$data"
difftori fit --config bc_metaworld_state.yaml "${words[@]}" --trainer.logger.name base \
    --trainer.max_steps "${DEMO_BASE_STEPS:-2000}" --rollout.every_n_train_steps "$((${DEMO_BASE_STEPS:-2000} / 4))"
difftori fit --config il_metaworld_state.yaml "${words[@]}" --trainer.logger.name difftori \
    --trainer.max_steps "${DEMO_STEPS:-1600}" --rollout.every_n_train_steps "$((${DEMO_STEPS:-1600} / 4))" \
    --model.base_policy.checkpoint "$run/base"
difftori test --config il_metaworld_state.yaml "${words[@]}" --trainer.logger.name test \
    --model.base_policy.checkpoint "$run/base" --ckpt_path "$run/difftori/checkpoints/best.ckpt" \
    --rollout.n_episodes "${DEMO_ROLLOUTS:-200}"
python setup/demo_report.py "$run" "$task"
