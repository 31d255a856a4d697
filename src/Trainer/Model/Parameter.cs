using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>One parameter as the checkpoint knows it. One declaration gives name, shape, decay and initial value.</summary>
/// <param name="Name">Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight</param>
/// <param name="Shape">[out, in] for matrices, [n] for norms and biases</param>
/// <param name="Decay">whether AdamW's decoupled weight decay applies (Hugging Face's rule: matrices and embeddings yes, norms and biases no)</param>
/// <param name="Init">how random weights start</param>
public sealed record Parameter(string Name, Shape Shape, bool Decay, ParameterInit Init);
