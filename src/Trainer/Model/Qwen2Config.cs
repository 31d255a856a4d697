using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// The shape of a Qwen2 model, as config.json of Hugging Face states it. Llama without rope scaling is the same block without q/k/v bias
/// and is read too. What this engine does not compute is refused by its key, never ignored.
/// </summary>
public sealed record Qwen2Config
{
    private const string FileName = "config.json", GenerationFileName = "generation_config.json";

    /// <summary>"qwen2" or "llama".</summary>
    public required string ModelType { get; init; }

    /// <summary>D: width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>L: number of decoder layers.</summary>
    public required int NumHiddenLayers { get; init; }

    /// <summary>N: query heads.</summary>
    public required int NumAttentionHeads { get; init; }

    /// <summary>K: key/value heads; divides <see cref="NumAttentionHeads"/>.</summary>
    public required int NumKeyValueHeads { get; init; }

    /// <summary>H: elements per head, even; HiddenSize / NumAttentionHeads unless the file says otherwise.</summary>
    public required int HeadDim { get; init; }

    /// <summary>F: width of the SwiGLU.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>V: rows of the embedding; any number (published Z1-Coder weights have 151,667).</summary>
    public required int VocabSize { get; init; }

    /// <summary>Longest sequence the model was trained for, tokens.</summary>
    public required int MaxPositionEmbeddings { get; init; }

    /// <summary>eps of the RMS norms.</summary>
    public required double RmsNormEps { get; init; }

    /// <summary>Base of the rotary frequencies.</summary>
    public required double RopeTheta { get; init; }

    /// <summary>Whether the LM head is the embedding.</summary>
    public required bool TieWordEmbeddings { get; init; }

    /// <summary>Whether q, k and v have a bias (Qwen2 yes, Llama no); o and the MLP have none.</summary>
    public required bool AttentionBias { get; init; }

    /// <summary>One line that tells two models apart; a checkpoint carries it.</summary>
    public string Fingerprint =>
        $"{ModelType} hidden={HiddenSize} layers={NumHiddenLayers} heads={NumAttentionHeads}/{NumKeyValueHeads}x{HeadDim} " +
        $"intermediate={IntermediateSize} vocab={VocabSize} eps={RmsNormEps:R} theta={RopeTheta:R} tied={TieWordEmbeddings} bias={AttentionBias}";

    /// <summary>Reads config.json of a model directory: the layout of transformers 4 (rope_theta) or 5 (rope_parameters).</summary>
    /// <exception cref="InvalidInputException">unreadable, another architecture, or a feature or value this engine does not support</exception>
    public static Qwen2Config Load(string directory)
    {
        ArgumentNullException.ThrowIfNull(directory);
        var path = Path.Combine(directory, FileName);
        using var document = ConfigKeys.Open(path);
        return Parse(new ConfigKeys(path, document.RootElement));
    }

    /// <summary>The tokens that end a generation: eos_token_id of generation_config.json, else of config.json; none when neither has one.</summary>
    public static IReadOnlyList<int> LoadEosTokenIds(string directory)
    {
        ArgumentNullException.ThrowIfNull(directory);
        foreach (var name in (ReadOnlySpan<string>)[GenerationFileName, FileName])
        {
            var path = Path.Combine(directory, name);
            if (!File.Exists(path))
            {
                continue;
            }

            using var document = ConfigKeys.Open(path);
            var ids = new ConfigKeys(path, document.RootElement).TokenIds("eos_token_id");
            if (ids.Count > 0)
            {
                return ids;
            }
        }

        return [];
    }

    /// <summary>Writes config.json, in the layout of the published models that transformers 4 and 5 both read, and generation_config.json.</summary>
    /// <param name="directory">exists already</param>
    /// <param name="dtype">of the weights, as torch names it: "bfloat16" or "float32"</param>
    /// <param name="eosTokenIds">tokens that end a generation; may be empty</param>
    /// <param name="bosTokenId">first token, where the model has one</param>
    /// <param name="padTokenId">padding token, where the model has one</param>
    public void Save(string directory, string dtype, IReadOnlyList<int> eosTokenIds, int? bosTokenId = null, int? padTokenId = null)
    {
        File.WriteAllBytes(Path.Combine(directory, FileName), ToJson(dtype, eosTokenIds, bosTokenId, padTokenId));
        File.WriteAllBytes(Path.Combine(directory, GenerationFileName), GenerationToJson(eosTokenIds, bosTokenId, padTokenId));
    }

    /// <summary>The bytes of config.json; see <see cref="Save"/>.</summary>
    internal byte[] ToJson(string dtype, IReadOnlyList<int> eosTokenIds, int? bosTokenId, int? padTokenId) => Json(writer =>
    {
        var qwen = ModelType == "qwen2";
        writer.WriteStartArray("architectures");
        writer.WriteStringValue(qwen ? "Qwen2ForCausalLM" : "LlamaForCausalLM");
        writer.WriteEndArray();
        if (!qwen)
        {
            writer.WriteBoolean("attention_bias", false);
        }

        writer.WriteNumber("attention_dropout", 0.0);
        WriteTokens(writer, eosTokenIds, bosTokenId, padTokenId);
        if (HeadDim != HiddenSize / NumAttentionHeads)
        {
            writer.WriteNumber("head_dim", HeadDim);
        }

        writer.WriteString("hidden_act", "silu");
        writer.WriteNumber("hidden_size", HiddenSize);
        writer.WriteNumber("initializer_range", 0.02);
        writer.WriteNumber("intermediate_size", IntermediateSize);
        writer.WriteNumber("max_position_embeddings", MaxPositionEmbeddings);
        if (qwen)
        {
            writer.WriteNumber("max_window_layers", NumHiddenLayers);
        }
        else
        {
            writer.WriteBoolean("mlp_bias", false);
        }

        writer.WriteString("model_type", ModelType);
        writer.WriteNumber("num_attention_heads", NumAttentionHeads);
        writer.WriteNumber("num_hidden_layers", NumHiddenLayers);
        writer.WriteNumber("num_key_value_heads", NumKeyValueHeads);
        writer.WriteNumber("rms_norm_eps", RmsNormEps);
        writer.WritePropertyName("rope_theta");
        writer.WriteRawValue(RopeTheta % 1 == 0 && RopeTheta < 1e15 ? $"{RopeTheta:F1}" : $"{RopeTheta:R}"); // Python readers expect a float
        if (qwen)
        {
            writer.WriteNull("sliding_window");
        }

        writer.WriteBoolean("tie_word_embeddings", TieWordEmbeddings);
        writer.WriteString("torch_dtype", dtype);
        writer.WriteBoolean("use_cache", true);
        if (qwen)
        {
            writer.WriteBoolean("use_sliding_window", false);
        }

        writer.WriteNumber("vocab_size", VocabSize);
    });

    /// <summary>The bytes of generation_config.json.</summary>
    internal static byte[] GenerationToJson(IReadOnlyList<int> eosTokenIds, int? bosTokenId, int? padTokenId) =>
        Json(writer => WriteTokens(writer, eosTokenIds, bosTokenId, padTokenId));

    private static byte[] Json(Action<Utf8JsonWriter> members)
    {
        using var bytes = new MemoryStream();
        using (var writer = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            members(writer);
            writer.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    private static void WriteTokens(Utf8JsonWriter writer, IReadOnlyList<int> eosTokenIds, int? bosTokenId, int? padTokenId)
    {
        if (bosTokenId is { } bos)
        {
            writer.WriteNumber("bos_token_id", bos);
        }

        if (eosTokenIds.Count == 1)
        {
            writer.WriteNumber("eos_token_id", eosTokenIds[0]);
        }
        else if (eosTokenIds.Count > 1)
        {
            writer.WriteStartArray("eos_token_id");
            foreach (var id in eosTokenIds)
            {
                writer.WriteNumberValue(id);
            }

            writer.WriteEndArray();
        }

        if (padTokenId is { } pad)
        {
            writer.WriteNumber("pad_token_id", pad);
        }
    }

    private static Qwen2Config Parse(ConfigKeys keys)
    {
        var modelType = keys.Text("model_type") ?? throw keys.Wrong("model_type", "is missing; supported are \"qwen2\" and \"llama\"");
        if (modelType is not ("qwen2" or "llama"))
        {
            throw keys.Wrong("model_type", $"is \"{modelType}\"; supported are \"qwen2\", and \"llama\" without rope scaling");
        }

        var layers = keys.Positive("num_hidden_layers");
        var attentionBias = AttentionBiasOf(keys, modelType);
        RefuseOthers(keys, layers);
        var heads = keys.Positive("num_attention_heads");
        var hidden = keys.Positive("hidden_size");
        return new()
        {
            ModelType = modelType,
            HiddenSize = hidden,
            NumHiddenLayers = layers,
            NumAttentionHeads = heads,
            NumKeyValueHeads = KeyValueHeads(keys, modelType, heads),
            HeadDim = HeadDimOf(keys, hidden, heads),
            IntermediateSize = keys.Positive("intermediate_size"),
            VocabSize = keys.Positive("vocab_size"),
            MaxPositionEmbeddings = keys.Positive("max_position_embeddings", modelType == "llama" ? 2048 : 32768),
            RmsNormEps = keys.PositiveNumber("rms_norm_eps", 1e-6),
            RopeTheta = RopeThetaOf(keys),
            TieWordEmbeddings = keys.Flag("tie_word_embeddings", false),
            AttentionBias = attentionBias,
        };
    }

    private static bool AttentionBiasOf(ConfigKeys keys, string modelType)
    {
        var expected = modelType == "qwen2";
        return keys.Flag("attention_bias", expected) == expected
            ? expected
            : throw keys.Wrong("attention_bias", expected ? "is false, but qwen2 has q/k/v bias" : "is true; llama is supported without bias only");
    }

    private static int KeyValueHeads(ConfigKeys keys, string modelType, int heads)
    {
        // transformers: null means one per query head; absent means that for llama, but 32 for qwen2, which nobody relies on
        var count = keys.IsNull("num_key_value_heads") || (modelType == "llama" && !keys.Has("num_key_value_heads"))
            ? heads
            : keys.Positive("num_key_value_heads");
        return heads % count == 0
            ? count
            : throw keys.Wrong("num_key_value_heads", $"is {count}, which does not divide num_attention_heads {heads}");
    }

    private static int HeadDimOf(ConfigKeys keys, int hidden, int heads)
    {
        var given = keys.Has("head_dim") && !keys.IsNull("head_dim");
        if (!given && hidden % heads != 0)
        {
            throw keys.Wrong("hidden_size", $"is {hidden}, not a multiple of num_attention_heads {heads}, and there is no head_dim");
        }

        var headDim = given ? keys.Positive("head_dim") : hidden / heads;
        if ((long)headDim * heads > int.MaxValue)
        {
            throw keys.Wrong("head_dim", $"is {headDim}, too large for num_attention_heads {heads}");
        }

        return headDim % 2 == 0
            ? headDim
            : throw keys.Wrong(given ? "head_dim" : "hidden_size", $"gives a head dimension of {headDim}; rotary embedding needs an even one");
    }

    private static double RopeThetaOf(ConfigKeys keys)
    {
        RefuseScaling(keys, "rope_scaling");
        RefuseScaling(keys, "rope_parameters");
        var flat = keys.Has("rope_theta") && !keys.IsNull("rope_theta") ? keys.PositiveNumber("rope_theta", null) : (double?)null;
        if (keys.Child("rope_parameters") is not { } parameters || !parameters.Has("rope_theta"))
        {
            return flat ?? 10_000; // what transformers takes when the key is absent
        }

        var nested = parameters.PositiveNumber("rope_theta", null);
        return flat is null || flat == nested
            ? nested
            : throw keys.Wrong("rope_theta", $"is {flat}, but rope_parameters.rope_theta is {nested}");
    }

    private static void RefuseScaling(ConfigKeys keys, string key)
    {
        if (keys.Child(key) is not { } scaling)
        {
            return;
        }

        var type = scaling.Text("rope_type") ?? scaling.Text("type") ?? (key == "rope_parameters" ? "default" : "unnamed");
        if (type != "default")
        {
            throw keys.Wrong(key, $"asks for the rope type \"{type}\"; only \"default\" (no scaling) is supported");
        }

        RefusePartialRotary(scaling);
    }

    private static void RefusePartialRotary(ConfigKeys keys)
    {
        if (keys.Has("partial_rotary_factor") && !keys.IsNull("partial_rotary_factor") && keys.PositiveNumber("partial_rotary_factor", 1) != 1)
        {
            throw keys.Wrong("partial_rotary_factor", "is not 1; rotary embedding is supported over whole heads only");
        }
    }

    private static void RefuseOthers(ConfigKeys keys, int layers)
    {
        var activation = keys.Text("hidden_act") ?? "silu";
        if (activation is not ("silu" or "swish"))
        {
            throw keys.Wrong("hidden_act", $"is \"{activation}\"; only \"silu\" is supported");
        }

        if (keys.Flag("mlp_bias", false))
        {
            throw keys.Wrong("mlp_bias", "is true; the MLP is supported without bias only");
        }

        RefusePartialRotary(keys);
        if (keys.Has("quantization_config") && !keys.IsNull("quantization_config"))
        {
            throw keys.Wrong("quantization_config", "is present; quantised weights are not supported, take the bfloat16 or float32 model");
        }

        if (keys.Flag("use_sliding_window", false) && !keys.IsNullOrAbsent("sliding_window")
            && (keys.IsNullOrAbsent("max_window_layers") || keys.NotNegative("max_window_layers") < layers))
        {
            throw keys.Wrong("use_sliding_window", "is true; sliding-window attention is not supported");
        }

        if (keys.Texts("layer_types") is { } types)
        {
            if (types.Find(t => t != "full_attention") is { } other)
            {
                throw keys.Wrong("layer_types", $"names \"{other}\"; only \"full_attention\" is supported");
            }

            if (types.Count != layers)
            {
                throw keys.Wrong("layer_types", $"has {types.Count} entries, but num_hidden_layers is {layers}");
            }
        }
    }
}
