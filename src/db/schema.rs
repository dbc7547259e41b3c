// @generated automatically by Diesel CLI.

diesel::table! {
    api_keys (id) {
        id -> Int8,
        tenant_id -> Int8,
        label -> Text,
        digest -> Bytea,
        created_us -> Int8,
        expires_us -> Nullable<Int8>,
        revoked_us -> Nullable<Int8>,
    }
}

diesel::table! {
    completion_events (event_id) {
        event_id -> Bytea,
        request_id -> Text,
        tenant_id -> Int8,
        key_id -> Int8,
        platform -> Nullable<Text>,
        model_id -> Nullable<Text>,
        outcome -> Text,
        streamed -> Bool,
        attempts -> Int8,
        input_tokens -> Int8,
        output_tokens -> Int8,
        usage_reported -> Bool,
        started_us -> Int8,
        first_byte_us -> Nullable<Int8>,
        ended_us -> Int8,
    }
}

diesel::table! {
    local_blocks (id) {
        id -> Int8,
        provider -> Text,
        since_us -> Int8,
    }
}

diesel::table! {
    local_cooldowns (provider, account, model) {
        provider -> Text,
        account -> Text,
        model -> Text,
        until_us -> Int8,
        reason -> Text,
    }
}

diesel::table! {
    local_coverage (provider, account, model) {
        provider -> Text,
        account -> Text,
        model -> Text,
        since_us -> Int8,
        kept_us -> Int8,
    }
}

diesel::table! {
    local_holds (id) {
        id -> Int8,
        provider -> Text,
        account -> Text,
        model -> Text,
        input_tokens -> Int8,
        output_tokens -> Int8,
        send_by_us -> Int8,
        first_byte_us -> Nullable<Int8>,
        finish_us -> Nullable<Int8>,
        is_aborted -> Bool,
        is_exact -> Bool,
        used_input_tokens -> Int8,
        used_output_tokens -> Int8,
    }
}

diesel::table! {
    models (id) {
        id -> Int8,
        platform -> Text,
        model_id -> Text,
    }
}

diesel::table! {
    seals (name) {
        name -> Text,
        value -> Bytea,
    }
}

diesel::table! {
    tenants (id) {
        id -> Int8,
        name -> Text,
        created_us -> Int8,
        rpm -> Nullable<Int8>,
        rpd -> Nullable<Int8>,
        tpm -> Nullable<Int8>,
        tpd -> Nullable<Int8>,
        tpmonth -> Nullable<Int8>,
        parallel -> Nullable<Int8>,
        weight -> Int8,
        models -> Nullable<Text>,
        no_training -> Bool,
    }
}

diesel::joinable!(api_keys -> tenants (tenant_id));

diesel::allow_tables_to_appear_in_same_query!(
    api_keys,
    completion_events,
    local_blocks,
    local_cooldowns,
    local_coverage,
    local_holds,
    models,
    seals,
    tenants,
);
