"""LLaMA-Factory's own keys of which only one thing is to be said, beside those of `TrainingArguments`."""

from sft_runner.importing.draft import notes
from sft_runner.importing.machine import ONE_PROCESS

NO_EFFECT = notes(
    {
        "everything goes below output_dir, which is no part of a recipe; the same command resumes": """
            overwrite_cache tokenized_path cache_dir plot_loss print_param_status output_dir overwrite_output_dir
            resume_from_checkpoint data_shared_file_system offload_folder save_dir""",
        "who is told is chosen with tracking=wandb, mlflow or tensorboard, on the command line or in conf/local": """
            use_swanlab swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir
            swanlab_lark_webhook_url swanlab_lark_secret report_to run_name include_effective_tokens_per_second
            logging_dir""",
        "speed only: the plan and the hardware preset see to it": """
            preprocessing_num_workers preprocessing_batch_size streaming buffer_size enable_liger_kernel use_unsloth
            use_unsloth_gc use_reentrant_gc use_v1_kernels low_cpu_mem_usage use_kv_cache upcast_layernorm
            upcast_lmhead_output enable_torch_profiler profiler_output_dir profiler_wait_steps profiler_warmup_steps
            profiler_active_steps profiler_repeat profiler_record_shapes profiler_profile_memory profiler_with_stack
            profile_modules block_diag_attn""",
        ONE_PROCESS: """
            device_map quantization_device_map ray_num_workers ray_init_kwargs master_addr master_port use_mca
            use_hyper_parallel hyper_parallel_args ray_run_name ray_storage_path resources_per_worker
            placement_strategy ddp_timeout""",
        "nothing is fetched with a token of the file: log in with `hf auth login`": """
            hf_hub_token ms_hub_token om_hub_token hub_token""",
        "the merged model is written by the stage merge, with a proof; see export": """
            export_dir export_size export_device export_legacy_format export_hub_model_id pissa_convert
            create_new_adapter""",
        "the model is served with stage=serve, answers are written by the stage evaluate: evaluate.max_new_tokens": """
            infer_backend vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen
            sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend do_sample temperature top_p top_k
            num_beams max_new_tokens repetition_penalty length_penalty skip_special_tokens max_length eval_num_beams
            predict_with_generate""",
        "follows from the model's own files": "use_fast_tokenizer split_special_tokens model_max_length",
        "padding carries no loss": "ignore_pad_token_for_loss",
        "scores are told for each source anyway": "eval_on_each_dataset compute_accuracy",
        "the stage says it": "do_train do_eval do_predict",
        "images are not read": """
            freeze_vision_tower freeze_multi_modal_projector freeze_language_model image_max_pixels image_min_pixels
            image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen
            use_audio_in_video audio_sampling_rate media_dir image_resolution video_resolution""",
    }
)
NOT_CARRIED = notes(
    {
        "only supervised fine-tuning is done here": """
            pref_beta pref_ftx pref_bco_weight pref_loss dpo_label_smoothing kto_chosen_weight kto_rejected_weight
            simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards ref_model
            ref_model_adapters ref_model_quantization_bit reward_model reward_model_adapters
            reward_model_quantization_bit reward_model_type ld_alpha""",
        "this way of training is not here; see docs/methods.md for those that are": """
            freeze_trainable_layers freeze_trainable_modules freeze_extra_modules module_dropout oft_rank
            oft_block_size oft_target use_galore galore_target galore_rank galore_update_interval galore_scale
            galore_proj_type galore_layerwise use_apollo apollo_target apollo_rank apollo_update_interval apollo_scale
            apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front use_badam badam_mode
            badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio badam_mask_mode badam_verbose
            use_llama_pro use_adam_mini use_muon mixture_of_depths shift_attn train_from_scratch use_kt kt_weight_path
            kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size fp8
            fp8_backend fp8_enable_fsdp_float8_all_gather kt_optimize_rule cpu_infer chunk_size""",
        "the loss is the mean over the tokens of a step; there is no other": """
            use_dft_loss use_asft_loss asft_alpha use_eaft_loss eaft_alpha moe_aux_loss_coef""",
        "the model's own tokens are used and its vocabulary does not grow": """
            resize_vocab add_tokens add_special_tokens new_special_tokens_config init_special_tokens
            additional_target""",
        "the model is taken as it is": "rope_scaling adapter_folder",
        "calls of tools are written by the model's own template": "tool_format",
        "rows are drawn by train.seed": "disable_shuffling",
        "a merged model is not quantised here; see export=[gguf]": """
            export_quantization_bit export_quantization_dataset export_quantization_nsamples
            export_quantization_maxlen""",
        "name benchmarks of lm-evaluation-harness in evaluate.benchmarks": """
            task task_dir batch_size lang n_shot download_mode""",
    }
)
OTHER = """
    model_name_or_path model_revision trust_remote_code adapter_name_or_path flash_attn quantization_bit compute_dtype
    infer_dtype disable_gradient_checkpointing stage finetuning_type pure_bf16 lora_alpha lora_dropout lora_rank
    lora_target loraplus_lr_ratio loraplus_lr_embedding use_rslora use_dora pissa_init pissa_iter early_stopping_steps
    template dataset eval_dataset dataset_dir cutoff_len train_on_prompt mask_history mix_strategy interleave_probs
    max_samples val_size packing neat_packing default_system enable_thinking preserve_thinking quantization_type
    double_quantization quantization_method
"""
KNOWN = frozenset((*NO_EFFECT, *NOT_CARRIED, *OTHER.split()))
