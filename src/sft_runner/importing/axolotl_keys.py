"""axolotl's keys of which only one thing is to be said, by what that is."""

from sft_runner.importing.draft import notes
from sft_runner.importing.machine import ONE_PROCESS

NO_EFFECT = notes(
    {
        "everything goes below output_dir, which is no part of a recipe; the same command resumes": """
            output_dir dataset_prepared_path save_safetensors save_only_model strict axolotl_config_path is_preprocess
            preprocess_iterable resume_from_checkpoint auto_resume_from_checkpoints save_first_step debug inference
            dynamic_checkpoint""",
        "who is told is chosen with tracking=wandb, mlflow or tensorboard, on the command line or in conf/local": """
            use_wandb wandb_name wandb_run_id wandb_mode wandb_project wandb_entity wandb_watch wandb_log_model
            use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts use_comet
            comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode comet_online
            comet_experiment_config use_tensorboard use_trackio trackio_project_name trackio_run_name trackio_space_id
            use_swanlab swanlab_project swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace
            swanlab_api_key swanlab_log_dir use_otel_metrics otel_metrics_host otel_metrics_port
            include_tokens_per_second include_tkps profiler_steps profiler_steps_start""",
        "nothing is uploaded: hand the model on with export=[adapter] or export=[safetensors]": """
            hub_model_id hub_strategy hub_revision push_dataset_to_hub hf_use_auth_token""",
        ONE_PROCESS: """
            fsdp_version fsdp_final_state_dict_type ddp ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers
            ddp_find_unused_parameters local_rank device device_map accelerator_config max_memory gpu_memory_limit
            low_cpu_mem_usage lora_on_cpu qlora_sharded_model_loading sequence_parallel_degree context_parallel_size
            tensor_parallel_size dp_shard_size dp_replicate_size expert_parallel_size heads_k_stride ring_attn_func
            use_ray ray_run_name ray_num_workers resources_per_worker experimental_skip_move_to_device world_size
            activation_offloading""",
        "speed only: the plan and the hardware preset see to it": """
            tf32 torch_compile torch_compile_backend torch_compile_mode flash_attn_cross_entropy flash_attn_rms_norm
            flash_attn_fuse_qkv flash_attn_fuse_mlp flash_optimum unsloth_cross_entropy_loss unsloth_lora_mlp
            unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm unsloth_rope lora_mlp_kernel lora_qkv_kernel lora_o_kernel
            lora_embedding_kernel liger_rope liger_rms_norm liger_glu_activation liger_swiglu liger_layer_norm
            liger_cross_entropy liger_fused_linear_cross_entropy cut_cross_entropy use_kernels gc_steps
            flex_attn_compile_kwargs xformers_attention auto_find_batch_size dataloader_pin_memory
            dataloader_prefetch_factor dataloader_drop_last dataset_processes dataset_num_proc dataset_keep_in_memory
            sample_packing_group_size sample_packing_bin_size sample_packing_sequentially
            sample_packing_mp_start_method sample_packing_eff_est pad_to_sequence_len eval_sample_packing
            batch_flattening multipack_real_batches group_by_length remove_unused_columns
            pretrain_multipack_buffer_size streaming streaming_multipack_buffer_size total_num_tokens
            total_supervised_tokens embeddings_skip_upcast""",
        "follows from the model's own files": """
            model_type type_of_model tokenizer_type tokenizer_use_fast tokenizer_legacy tokenizer_save_jinja_files
            is_falcon_derived_model is_llama_derived_model is_mistral_derived_model is_qwen_derived_model
            cls_model_config lora_fan_in_fan_out""",
        "rows are drawn by data.seed and train.seed": "shuffle_merged_datasets shuffle_before_merging_datasets",
        "repeated rows are found by prepare anyway: see docs/data.md": "dataset_exact_deduplication",
        "the stage merge does it, with a proof": "merge_lora merge_method",
        "a loss that diverges is watched for anyway: train.on_divergence": """
            loss_watchdog_threshold loss_watchdog_patience""",
        "the model is served with stage=serve": """
            gradio_title gradio_share gradio_server_name gradio_server_port gradio_max_new_tokens gradio_temperature""",
        "answers are written at the end by the stage evaluate: evaluate.metrics, evaluate.max_new_tokens": """
            eval_table_size generate_samples num_generation_samples generation_max_new_tokens generation_temperature
            generation_top_p generation_top_k generation_prompt_ratio generation_do_sample""",
    }
)
NOT_CARRIED = notes(
    {
        "only supervised fine-tuning is done here; of preference rows the chosen answer is learned, with "
        "data.format=preference": """
            rl trl vllm dpo_use_weighting dpo_use_logits_to_keep dpo_label_smoothing dpo_norm_loss dpo_padding_free
            dpo_loss_type dpo_generate_during_eval rpo_alpha orpo_alpha simpo_gamma cpo_alpha kto_desirable_weight
            kto_undesirable_weight rl_beta dpo_beta reward_model process_reward_model num_labels max_prompt_len
            center_rewards_coefficient""",
        "only text is learned here": "processor_type image_size image_resize_algorithm",
        "a configuration names no code here; metrics of your own are entry points": "plugins trainer_cls",
        "the model's own tokens are used and its vocabulary does not grow": """
            special_tokens tokens added_tokens_overrides resize_token_embeddings_to_32x mean_resizing_embeddings
            shrink_embeddings lora_modules_to_save fix_untrained_tokens eot_tokens peft_trainable_token_indices
            peft_ensure_weight_tying tokenizer_use_mistral_common""",
        "this way of training is not here; see docs/methods.md for those that are": """
            relora relora_steps relora_warmup_steps relora_anneal_steps relora_prune_ratio relora_prune_method
            relora_cpu_offload jagged_restart_steps jagged_restart_warmup_steps jagged_restart_anneal_steps
            lisa_n_layers lisa_step_interval lisa_layers_attribute lr_groups unfrozen_parameters
            peft_layers_to_transform peft_layers_pattern peft_layer_replication peft_autocast_adapter_dtype peft gptq
            qat quantization fp8 torchdistx_path curriculum_sampling use_pose pose_split_on_token_ids
            pose_max_context_len pose_num_chunks optim_target_modules llama4_linearized_experts diffusion
            model_quantization_config model_quantization_config_kwargs bnb_config_kwargs gptq_group_size
            gptq_model_v1""",
        "the rate has no such shape here; see train.lr_scheduler_type": """
            lr_quadratic_warmup cosine_constant_lr_ratio lr_div_factor embedding_lr embedding_lr_scale adam_epsilon2
            adam_beta3""",
        "the model is taken as it is": """
            model_config overrides_of_model_config model_kwargs overrides_of_model_kwargs rope_scaling
            noisy_embedding_alpha s2_attention max_packed_sequence_len tokenizer_config""",
        "rows are taken as a whole; see data.limit, data.sources and docs/data.md": """
            dataset_shard_num dataset_shard_idx skip_prepare_dataset min_sample_len pretraining_sample_concatenation
            pretrain_multipack_attn""",
        "name what answers are measured by: evaluate.metrics, evaluate.benchmarks (`sft-runner metrics`)": """
            do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_dataset bench_split""",
    }
)
OTHER = """
    base_model base_model_config revision_of_model model_revision trust_remote_code load_in_8bit load_in_4bit adapter
    lora_model_dir lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters lora_target_linear
    peft_use_dora peft_use_rslora peft_init_lora_weights loraplus_lr_ratio loraplus_lr_embedding
    gradient_accumulation_steps micro_batch_size batch_size eval_batch_size train_on_inputs learning_rate weight_decay
    optimizer optim_args lr_scheduler lr_scheduler_kwargs cosine_min_lr_ratio adam_epsilon adam_beta1 adam_beta2
    max_grad_norm num_epochs datasets test_datasets pretraining_dataset dataloader_num_workers seed
    metric_for_best_model greater_is_better bf16 fp16 bfloat16 float16 float32 gradient_checkpointing
    gradient_checkpointing_kwargs sequence_len excess_length_strategy sample_packing sdp_attention flex_attention
    flash_attention eager_attention attn_implementation deepspeed fsdp fsdp_config val_set_size max_steps warmup_steps
    warmup_ratio eval_steps evals_per_epoch eval_strategy evaluation_strategy save_steps saves_per_epoch save_strategy
    save_total_limit logging_steps early_stopping_patience load_best_model_at_end neftune_noise_alpha chat_template
    chat_template_jinja chat_template_kwargs default_system_message eval_max_new_tokens label_smoothing_factor
"""
ROWS = """
    path split type input_transform shards shards_idx preprocess_shards conversation chat_template chat_template_jinja
    data_files input_format name ds_type field field_human field_model field_messages field_tools field_thinking
    template_thinking_key message_field_role message_field_content message_property_mappings message_field_training
    message_field_training_detail split_thinking logprobs_field temperature roles_to_train train_on_eos roles
    drop_system_message trust_remote_code revision text_column skip field_instruction field_input field_output
    field_system format no_input_format system_prompt system_format
"""
"""Keys of one data set."""
KNOWN = frozenset((*NO_EFFECT, *NOT_CARRIED, *OTHER.split(), *ROWS.split()))
